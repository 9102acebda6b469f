"""The theorems and laws of path space, each a function of a random network that tells by how much it errs there.

The first line of a docstring is the statement; docs/theory.md derives it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import pathrnn
from bench.networks import AnyWidths, Case, case
from pathrnn import basis as skeletons
from pathrnn.gauge import balanced
from pathrnn.graph import BIAS, ReductionGraph, flatten, unflatten
from pathrnn.path_norm import kappa
from pathrnn.space import build_rule

_PRIME = 2_147_483_629


def _off(actual: Tensor, expected: Tensor) -> float:
    """Largest error over largest entry; a NaN is the largest of all."""
    actual, expected = actual.detach(), expected.detach()
    error = float((actual - expected).abs().max()) / max(float(expected.abs().max()), 1e-300)
    return error if error == error else float("inf")


def _rescaled(drawn: Case, power: float = 1.0) -> AnyWidths:
    other = copy.deepcopy(drawn.graph)
    other.rescale_([scale**power for scale in drawn.scales])
    return other


def _bases(drawn: Case, draw: random.Random) -> list[pathrnn.BasisPaths]:
    """Both skeletons of the package, and one at random."""
    bases = [pathrnn.BasisPaths(drawn.graph, kind) for kind in ("index", "magnitude", "index")]
    pairs = list(pairwise(drawn.graph.widths))
    source = [torch.tensor([draw.randrange(before) for _ in range(own)]) for before, own in pairs[:-1]]
    target = [torch.tensor([draw.randrange(after) for _ in range(own)]) for own, after in pairs[1:]]
    bases[2].skeleton = skeletons.from_choice(drawn.graph.wiring(), source, target)
    return bases


def rank_modulo_prime(matrix: Tensor) -> int:
    """Rank over a prime field, in exact integers: a lower bound of the rank over the rationals."""
    rows = [[int(x) % _PRIME for x in row] for row in matrix.tolist()]
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        inverse = pow(rows[rank][column], -1, _PRIME)
        for i in range(rank + 1, len(rows)):
            if factor := rows[i][column] * inverse % _PRIME:
                rows[i] = [(a - factor * b) % _PRIME for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def random_walk(graph: ReductionGraph, draw: random.Random) -> Tensor:
    """Count how often a random walk from an input or the bias node to an output uses each edge."""
    edges: dict[tuple[int, int], list[tuple[int, tuple[int, int]]]] = {}
    number = 0
    for tensor, (tail, head) in zip(graph.parameters(), graph.wiring(), strict=True):
        for v in range(len(tensor)):
            for u in range(1 if tail == BIAS else tensor.shape[1]):
                edges.setdefault((tail, u), []).append((number, (head, v)))
                number += 1
    node = draw.choice([node for node in edges if node[0] < 1])
    counts = torch.zeros(number, dtype=torch.int64)
    while node in edges:
        edge, node = draw.choice(edges[node])
        counts[edge] += 1
    return counts


def rescaling(drawn: Case, _: random.Random) -> float:
    """Rescaling hidden units leaves the function as it is."""
    return _off(drawn.outputs(_rescaled(drawn)), drawn.outputs())


def rank(drawn: Case, draw: random.Random) -> float:
    """Any skeleton gives m - H basis paths: incidence of full rank, no negative entry."""
    expected = drawn.graph.num_weights - drawn.graph.num_hidden
    errors = []
    for basis in _bases(drawn, draw):
        incidence = basis.incidence().to_dense()
        wrong = abs(rank_modulo_prime(incidence) - expected) + abs(len(incidence) - expected)
        errors.append(wrong + int((incidence < 0).sum()))
    return float(max(errors))


def walks(drawn: Case, draw: random.Random) -> float:
    """Every walk is an integer combination of basis paths."""
    errors = []
    for basis in _bases(drawn, draw):
        incidence = basis.incidence().to_dense()
        for _ in range(5):
            walk = random_walk(drawn.graph, draw)
            solution = torch.linalg.lstsq(incidence.T.double(), walk.double().unsqueeze(-1), driver="gelsd").solution
            errors.append(int((incidence.T @ solution.squeeze(-1).round().long() - walk).abs().max()))
    return float(max(errors))


def invariance(drawn: Case, draw: random.Random) -> float:
    """Path values are invariant under rescaling."""
    bases = _bases(drawn, draw)
    before = [basis.values() for basis in bases]
    drawn.graph.rescale_(drawn.scales)
    return max(_off(basis.values() / old, torch.ones_like(old)) for basis, old in zip(bases, before, strict=True))


def sufficiency(drawn: Case, _: random.Random) -> float:
    """Equal path values and signs make two networks rescalings of each other."""
    # Another network with the same signs, given the path values: is it a rescaling of the first?
    other = copy.deepcopy(drawn.graph)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.mul_(tensor.abs().roll(1).flatten().sort().values.reshape(tensor.shape) + 0.5)
    pathrnn.BasisPaths(other).assign_(pathrnn.BasisPaths(drawn.graph).values())
    return _off(flatten(balanced(other)), flatten(balanced(drawn.graph)))


def chain_rule(drawn: Case, draw: random.Random) -> float:
    """Path gradients solve the chain rule, J^T gamma = g."""
    # With v = prod w^A, the Jacobian is diag(v) A diag(1 / w).
    drawn.backward()
    weights, gradient, errors = drawn.graph.weights(), drawn.graph.gradients(), []
    for basis in _bases(drawn, draw):
        jacobian = basis.values().unsqueeze(-1) * basis.incidence().to_dense() / weights
        errors.append(_off(jacobian.T @ basis.gradients(), gradient))
    return max(errors)


def flow(drawn: Case, _: random.Random) -> float:
    """The flow w dL/dw is conserved at every hidden unit."""
    drawn.backward()
    flows = unflatten(drawn.graph.weights() * drawn.graph.gradients(), drawn.graph.parameters())
    errors = [0.0]
    for layer, width in enumerate(drawn.graph.widths[1:-1], 1):
        net = torch.zeros(width, dtype=torch.float64)
        for flow, (tail, head) in zip(flows, drawn.graph.wiring(), strict=True):
            if head == layer:
                net += flow if tail == BIAS else flow.sum(1)
            if tail == layer:
                net -= flow.sum(0)
        errors.append(float(net.abs().max()))
    return max(errors) / max(1.0, float(flatten(flows).abs().max()))


def allocation(drawn: Case, draw: random.Random) -> float:
    """Weight allocation inverts path values."""
    errors = []
    for basis in _bases(drawn, draw):
        generator = torch.Generator().manual_seed(draw.getrandbits(32))
        noise = torch.randn(basis.count, generator=generator, dtype=torch.float64)
        wanted = basis.values() * noise.exp() * noise.sign()
        basis.assign_(wanted)
        errors.append(_off(basis.values() / wanted, torch.ones_like(wanted)))
    return max(errors)


def _gauge_is_unique(gauge_: Callable[[ReductionGraph], None], drawn: Case) -> float:
    """From two representatives: the same weights, the same function."""
    before, other = drawn.outputs().detach(), _rescaled(drawn)
    gauge_(drawn.graph)
    gauge_(other)
    return max(_off(other.weights(), drawn.graph.weights()), _off(drawn.outputs(), before))


def balanced_unique(drawn: Case, _: random.Random) -> float:
    """The balanced gauge is one per class, with the same function."""
    return _gauge_is_unique(pathrnn.balance_, drawn)


def balanced_least(drawn: Case, _: random.Random) -> float:
    """The balanced gauge has the least norm."""
    pathrnn.balance_(drawn.graph)
    norm = drawn.graph.weights().norm()
    # To first order, one of the last two lowers a norm that is not the least.
    return max(0.0, *(float(1 - _rescaled(drawn, power).weights().norm() / norm) for power in (1.0, 0.1, -0.1)))


def conditioned(drawn: Case, _: random.Random) -> float:
    """The path-conditioned gauge is one per class, with the same function."""
    return _gauge_is_unique(pathrnn.path_condition_, drawn)


def curvature(drawn: Case, draw: random.Random) -> float:
    """Path-SGD's kappa is half the second derivative of the squared path norm."""
    # Path-SGD's divisor against the Hessian of the squared path norm, from a forward pass with squared weights.
    steps, graph = draw.randint(1, 4), drawn.graph
    ones = torch.ones(steps, 1, graph.widths[0], dtype=torch.float64)

    def squared_norm(weights: Tensor) -> Tensor:
        squares = AnyWidths(unflatten(weights.square(), graph.parameters()), graph.wiring())
        return Case(squares, ones, ones, []).outputs()[-1].sum()

    hessian = torch.autograd.functional.hessian(squared_norm, graph.weights())  # type: ignore[no-untyped-call]
    return _off(torch.add(*map(flatten, kappa(graph, steps, second_term=True))), hessian.diagonal() / 2)


def permutation(drawn: Case, draw: random.Random) -> float:
    """Permuting hidden units permutes path values."""
    values, outputs = (
        pathrnn.BasisPaths(drawn.graph, "magnitude").values().abs().sort().values,
        drawn.outputs().detach(),
    )
    orders = [torch.tensor(draw.sample(range(width), width)) for width in drawn.graph.widths[1:-1]]
    with torch.no_grad():
        for tensor, (tail, head) in zip(drawn.graph.parameters(), drawn.graph.wiring(), strict=True):
            if head <= len(orders):
                tensor.copy_(tensor[orders[head - 1]])
            if tail > 0:
                tensor.copy_(tensor[:, orders[tail - 1]])
    after = pathrnn.BasisPaths(drawn.graph, "magnitude").values().abs().sort().values
    return max(_off(after / values, torch.ones_like(values)), _off(drawn.outputs(), outputs))


def closed_form(_: Case, draw: random.Random) -> float:
    """SGD on path values has the closed form for equal widths."""
    # SGD on plain path values, equal hidden widths, out-skeleton weights of 1 or -1: section 4 of docs/theory.md.
    hidden = [draw.randint(1, 4)] * draw.randint(1, 3)
    drawn, rate = case([draw.randint(1, 4), *hidden, draw.randint(1, 4)], True, draw.getrandbits(32)), 1e-3
    chosen, tensors = pathrnn.BasisPaths(drawn.graph).skeleton, drawn.graph.parameters()
    with torch.no_grad():
        skeletons.put_(tensors, chosen.outs, [own.sign() for own in skeletons.read(tensors, chosen.outs)])
    drawn.backward()
    grads = skeletons.without([tensor.grad for tensor in tensors if tensor.grad is not None], chosen.outs)
    weights = [tensor.detach().clone() for tensor in tensors]
    a, slope = skeletons.read(weights, chosen.ins)[0], skeletons.read(grads, chosen.ins)[0]
    for weight, grad, (tail, _head) in zip(weights, grads, drawn.graph.wiring(), strict=True):
        slope = slope - (weight * grad).sum(0) / a if tail > 0 else slope
    new, outs = a - rate * slope, skeletons.read(weights, chosen.outs)
    for weight, grad, (tail, _head) in zip(weights, grads, drawn.graph.wiring(), strict=True):
        weight.copy_((a * weight - rate * grad / a) / new if tail > 0 else weight - rate * grad)
    skeletons.put_(weights, chosen.outs, outs)
    weights[0].scatter_(-1, chosen.ins.units[0], new.unsqueeze(-1))
    options: dict[str, Any] = {"coordinates": "raw", "skeleton": "index", "max_path_norm": None, "max_step_ratio": None}
    pathrnn.PathSpace(tensors, drawn.graph, torch.optim.SGD, lr=rate, **options).step()
    return _off(drawn.graph.weights(), flatten(weights))


_Build = Callable[[AnyWidths], torch.optim.Optimizer]
_RULES: list[Callable[..., torch.optim.Optimizer]] = [
    partial(torch.optim.SGD, lr=0.02, momentum=0.9),
    partial(torch.optim.Adam, lr=0.01),
    pathrnn.muon(0.01, 0.01),
]
_SPACES: list[Callable[..., torch.optim.Optimizer]] = [
    pathrnn.PathSpace,
    partial(pathrnn.PathSpace, coordinates="normalised", skeleton="index"),
    partial(pathrnn.GaugeFixed, every=5),
]


def _distance(drawn: Case, build: _Build, steps: int) -> float:
    """How far apart, in their outputs, a network and a rescaled one are after training."""
    outputs = []
    for graph in (copy.deepcopy(drawn.graph), _rescaled(drawn)):
        optimizer = build(graph)
        for _ in range(steps):
            drawn.backward(graph)
            optimizer.step()
        outputs.append(drawn.outputs(graph).detach())
    return _off(outputs[1], outputs[0])


def training(drawn: Case, _: random.Random) -> float:
    """Path space and fixed gauge train alike from any rescaling."""
    return max(_distance(drawn, lambda g, s=s, r=r: s(g.parameters(), g, r), 25) for s in _SPACES for r in _RULES)  # type: ignore[misc]


def path_sgd(drawn: Case, draw: random.Random) -> float:
    """Path-SGD trains alike from any rescaling."""
    second = draw.random() < 0.5
    return _distance(drawn, lambda graph: pathrnn.PathSGD(graph.parameters(), graph, 1e-3, 3, second), 25)


def weight_space(_: Case, draw: random.Random) -> float:
    """Weight space trains apart from two rescalings: the smallest difference."""
    drawn = case((3, 6, 6, 2), bias=True, seed=draw.getrandbits(32))
    return min(_distance(drawn, lambda g, r=r: build_rule(r, g.parameters(), g), 25) for r in _RULES)  # type: ignore[misc]


_ALGEBRA = [rescaling, rank, walks, invariance, sufficiency, chain_rule, flow, allocation, closed_form, permutation]
_GAUGES = [balanced_unique, balanced_least, conditioned, curvature]
STATEMENTS = {statement.__name__: statement for statement in [*_ALGEBRA, *_GAUGES, training, path_sgd, weight_space]}
