"""Path norm: Path-SGD's curvature and the path-conditioned gauge, against all paths of small networks one by one."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pathrnn
from bench.networks import AnyWidths, Case, case, forward
from pathrnn.path_norm import kappa
from tests.cases import cases
from tests.slow_twin import flat, list_edges

tiny = st.builds(
    case, st.lists(st.integers(1, 2), min_size=3, max_size=4).map(tuple), st.booleans(), st.integers(0, 2**32 - 1)
)


def unrolled_paths(graph: AnyWidths, steps: int) -> list[Counter[int]]:
    """Every path of the unrolled network, from an input or the bias node at any step to an output at the last."""
    edges = list_edges(graph)
    depth = max(edge.head[0] for edge in edges)
    found: list[Counter[int]] = []

    def extend(node: tuple[int, int], step: int, path: list[int]) -> None:
        if node[0] == depth:
            found.extend([Counter(path)] if step == steps - 1 else [])
            return
        for edge in edges:
            if edge.tail == node:
                later = step + (not edge.forward)  # recurrent edges lead to the next step
                if later < steps:
                    extend(edge.head, later, [*path, edge.number])

    starts = {edge.tail for edge in edges if edge.tail[0] == 0}
    for step in range(steps):
        for node in starts:
            extend(node, step, [])
        for edge in edges:
            if edge.tail[0] == -1:
                extend(edge.head, step, [edge.number])
    return found


def squared_norm(weights: Tensor, paths: list[Counter[int]]) -> Tensor:
    return sum((math.prod((weights[e] ** (2 * n) for e, n in path.items())) for path in paths), weights.sum() * 0)


@given(tiny, st.integers(1, 4))
@settings(max_examples=15)
def test_kappa_is_half_the_second_derivative_of_the_squared_path_norm(drawn: Case, steps: int) -> None:
    weights, paths = flat(drawn.graph), unrolled_paths(drawn.graph, steps)
    first, second = (torch.cat([part.flatten() for part in term]) for term in kappa(drawn.graph, steps, True))
    hessian = torch.autograd.functional.hessian(lambda w: squared_norm(w, paths), weights)
    torch.testing.assert_close(first + second, hessian.diagonal() / 2, rtol=1e-9, atol=1e-12)
    once = torch.zeros_like(weights)
    for path in paths:
        size = math.prod(weights[e].item() ** (2 * n) for e, n in path.items())
        for e, n in path.items():
            once[e] += n * size / weights[e].item() ** 2
    torch.testing.assert_close(first, once, rtol=1e-9, atol=1e-12)
    assert not any(part.any() for part in kappa(drawn.graph, steps, False)[1])


@given(cases, st.booleans())
@settings(max_examples=10)
def test_path_sgd_divides_gradients_by_kappa_and_is_unmoved_by_rescaling(drawn: Case, second_term: bool) -> None:
    moved = copy.deepcopy(drawn.graph)
    moved.rescale_(drawn.scales)
    outputs = []
    for graph in (drawn.graph, moved):
        drawn.backward(graph)
        before, gradient = graph.weights(), graph.gradients()
        curvature = [sum(terms) for terms in zip(*kappa(graph, 4, second_term), strict=True)]
        optimizer = pathrnn.PathSGD(graph.parameters(), graph, lr=1e-3, steps=4, second_term=second_term)
        optimizer.step()
        expected = before - 1e-3 * gradient / torch.cat([part.flatten() for part in curvature])
        torch.testing.assert_close(graph.weights(), expected, rtol=1e-12, atol=1e-14)
        for _ in range(100):
            drawn.backward(graph)
            optimizer.step()
        outputs.append(forward(graph, drawn.inputs).detach())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=1e-6)


def conditioned(weights: Tensor, graph: AnyWidths, steps: int) -> Tensor:
    """Condition unit by unit, with the positive root of the quadratic, until nothing changes."""
    paths, edges = unrolled_paths(graph, steps), list_edges(graph)
    units = sorted({edge.tail for edge in edges if edge.tail[0] > 0})
    weights = weights.clone()
    for _ in range(2000):
        largest = 0.0
        for unit in units:
            size = torch.zeros_like(weights)
            for path in paths:
                value = math.prod(weights[e].item() ** n for e, n in path.items())
                for e, n in path.items():
                    size[e] += (n * value / weights[e].item()) ** 2
            into = [e.number for e in edges if e.head == unit and e.tail != unit]
            out = [e.number for e in edges if e.tail == unit and e.head != unit]
            n, a = len(weights), len(into) - len(out)
            b, c = size[out].sum().item(), size[into].sum().item()
            d = size.sum().item() - b - c
            # n log(b x + c / x + d) + a log x is least where (n + a) b x^2 + a d x - (n - a) c = 0, with x = phi^2
            x = (-a * d + math.sqrt((a * d) ** 2 + 4 * (n + a) * b * (n - a) * c)) / (2 * (n + a) * b)
            weights[into] *= math.sqrt(x)
            weights[out] /= math.sqrt(x)
            largest = max(largest, abs(math.log(x)))
        if largest < 1e-13:
            break
    return weights


@given(tiny, st.integers(2, 3))
@settings(max_examples=10)
def test_path_conditioning_agrees_with_unit_by_unit_updates_from_any_representative(drawn: Case, steps: int) -> None:
    outputs = forward(drawn.graph, drawn.inputs).detach()
    expected = conditioned(drawn.graph.weights(), drawn.graph, steps)
    drawn.graph.rescale_(drawn.scales)
    pathrnn.path_condition_(drawn.graph, steps)
    torch.testing.assert_close(drawn.graph.weights(), expected, rtol=1e-5, atol=1e-9)
    after = forward(drawn.graph, drawn.inputs).detach()
    torch.testing.assert_close(after, outputs, rtol=1e-10, atol=1e-10 * float(outputs.abs().max()))


def test_feed_forward_conditioning_ignores_the_number_of_steps() -> None:
    torch.set_default_dtype(torch.float64)
    layers = [torch.nn.Linear(before, after) for before, after in pairwise((3, 6, 4, 2))]
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    weights = []
    for steps in (1, 3):
        other = copy.deepcopy(net)
        pathrnn.path_condition_(pathrnn.ReductionGraph(other), steps)
        weights.append(pathrnn.ReductionGraph(other).weights())
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-6, atol=1e-9)


def test_bad_numbers_of_steps_are_refused() -> None:
    graph = case((2, 3, 2), bias=True, seed=0).graph
    message = "^" + re.escape("steps must be at least 1, got 0") + "$"
    with pytest.raises(ValueError, match=message):
        pathrnn.path_condition_(graph, steps=0)
    with pytest.raises(ValueError, match=message):
        pathrnn.PathSGD(graph.parameters(), graph, lr=0.1, steps=0)
    with pytest.raises(ValueError, match=re.escape("lr must be positive, got 0.0")):
        pathrnn.PathSGD(graph.parameters(), graph, lr=0.0, steps=2)


def test_a_unit_on_no_path_of_so_many_steps_is_refused() -> None:
    rnn, head = torch.nn.RNN(1, 3, nonlinearity="relu", bias=False), torch.nn.Linear(3, 2)
    with torch.no_grad():
        rnn.weight_ih_l0[1] = 0.0
    message = (
        "the weight of the outgoing edges on paths of so many steps of unit 1 in hidden layer 1 must be nonzero and "
        "finite, got 0.0; change it, or start from another init"
    )
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        pathrnn.path_condition_(pathrnn.ReductionGraph(rnn, head), steps=1)
    pathrnn.path_condition_(pathrnn.ReductionGraph(rnn, head), steps=2)
