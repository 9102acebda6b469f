"""Theorems of the Skeleton Method, each against the slow twin or exact arithmetic."""

from __future__ import annotations

import random
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pathrnn
from bench.networks import Case, case
from bench.theorems import random_walk, rank_modulo_prime
from pathrnn import basis as skeletons
from tests.cases import WIDTHS, cases
from tests.slow_twin import SlowBasis, flat

kinds = st.sampled_from(["index", "magnitude"])


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["index", "magnitude"])
def test_incidence_is_that_of_the_slow_twin_and_has_full_rank(widths: tuple[int, ...], bias: bool, kind: str) -> None:
    graph = case(widths, bias, seed=1).graph
    basis, twin = pathrnn.BasisPaths(graph, kind), SlowBasis(graph, kind)
    incidence = basis.incidence().to_dense()
    expected = torch.zeros(len(twin.paths), graph.num_weights, dtype=torch.int64)
    for row, path in enumerate(twin.paths):
        for edge in path:
            expected[row, edge] += 1
    assert torch.equal(incidence, expected)
    assert basis.count == len(incidence) == graph.num_weights - graph.num_hidden
    assert rank_modulo_prime(incidence) == basis.count


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("kind", ["index", "magnitude", "random"])
def test_every_walk_is_an_integer_combination_of_basis_paths(widths: tuple[int, ...], kind: str) -> None:
    drawn, draw = case(widths, bias=True, seed=2), random.Random(3)
    basis = pathrnn.BasisPaths(drawn.graph, "index" if kind == "random" else kind)
    if kind == "random":
        choice = [
            ([draw.randrange(before) for _ in range(own)], [draw.randrange(after) for _ in range(own)])
            for before, own, after in zip(widths[:-2], widths[1:-1], widths[2:], strict=True)
        ]
        sides = [[torch.tensor(side) for side in layer] for layer in zip(*choice, strict=True)]
        basis.skeleton = skeletons.from_choice(drawn.graph.wiring(), *sides)
    incidence = basis.incidence().to_dense()
    assert rank_modulo_prime(incidence) == basis.count
    for _ in range(20):
        walk = random_walk(drawn.graph, draw)
        solution = torch.linalg.lstsq(incidence.T.double(), walk.double().unsqueeze(-1), driver="gelsd").solution
        assert torch.equal(incidence.T @ solution.squeeze(-1).round().long(), walk)


@given(cases, kinds)
def test_values_are_products_along_paths_and_invariant(drawn: Case, kind: str) -> None:
    twin = SlowBasis(drawn.graph, kind)
    basis = pathrnn.BasisPaths(drawn.graph, kind)
    before = basis.values()
    torch.testing.assert_close(before, twin.values(flat(drawn.graph)), rtol=1e-12, atol=0)
    drawn.graph.rescale_(drawn.scales)
    torch.testing.assert_close(basis.values(), before, rtol=1e-10, atol=0)
    torch.testing.assert_close(pathrnn.BasisPaths(drawn.graph, kind).values(), before, rtol=1e-10, atol=0)


@given(cases, kinds)
def test_gradients_solve_the_inverse_chain_rule(drawn: Case, kind: str) -> None:
    drawn.backward()
    jacobian = torch.autograd.functional.jacobian(SlowBasis(drawn.graph, kind).values, flat(drawn.graph))
    gamma, gradient = pathrnn.BasisPaths(drawn.graph, kind).gradients(), flat(drawn.graph, gradients=True)
    torch.testing.assert_close(jacobian.T @ gamma, gradient, rtol=1e-10, atol=1e-10 * float(gradient.abs().max()))


@given(cases, kinds)
def test_loss_moves_along_path_gradients_as_taylor_says(drawn: Case, kind: str) -> None:
    drawn.backward()
    basis = pathrnn.BasisPaths(drawn.graph, kind)
    values, gamma, start = basis.values(), basis.gradients(), drawn.loss().item()
    direction = values * torch.randn(len(values), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    step = 1e-7
    basis.assign_(values + step * direction)
    slope = (drawn.loss().item() - start) / step
    assert slope == pytest.approx(float(gamma @ direction), rel=1e-3, abs=1e-4 * (1 + abs(start)))


@given(cases, kinds, st.integers(0, 2**32 - 1))
def test_weight_allocation_inverts_values(drawn: Case, kind: str, seed: int) -> None:
    basis, before = pathrnn.BasisPaths(drawn.graph, kind), drawn.graph.weights()
    basis.assign_(basis.values())
    torch.testing.assert_close(drawn.graph.weights(), before, rtol=1e-12, atol=0)
    noise = torch.randn(basis.count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = basis.values() * torch.exp(noise) * noise.sign()
    expected = SlowBasis(drawn.graph, kind).allocate(before, target)
    basis.assign_(target)
    torch.testing.assert_close(basis.values(), target, rtol=1e-11, atol=0)
    torch.testing.assert_close(drawn.graph.weights(), expected, rtol=1e-11, atol=0)


def test_ties_are_broken_alike_after_rescaling() -> None:
    graph = case((4, 4, 4, 4), bias=True, seed=0).graph
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.fill_(0.5)
    before = pathrnn.BasisPaths(graph, "magnitude").skeleton
    graph.rescale_([torch.tensor([0.3, 7.0, 1.1, 0.01], dtype=torch.float64)] * 2)
    after = pathrnn.BasisPaths(graph, "magnitude").skeleton
    for old, new in zip((*before.ins.units, *before.outs.units), (*after.ins.units, *after.outs.units), strict=True):
        assert torch.equal(old, new)


def refused(message: str) -> str:
    return "^" + re.escape(message) + "$"


def test_bad_input_is_refused_and_changes_nothing() -> None:
    graph = case((2, 3, 2), bias=True, seed=0).graph
    with pytest.raises(ValueError, match=refused("skeleton must be one of ['index', 'magnitude'], got 'widest'")):
        pathrnn.BasisPaths(graph, "widest")
    basis, before = pathrnn.BasisPaths(graph), graph.weights()
    values = basis.values()
    with pytest.raises(
        ValueError, match=refused(f"values must have shape ({basis.count},), one per basis path, got (3,)")
    ):
        basis.assign_(values[:3])
    with pytest.raises(ValueError, match=refused("values must be finite, got nan")):
        basis.assign_(values * torch.nan)
    with pytest.raises(
        ValueError, match=refused("values of skeleton paths must be nonzero, got 0.0 for one into hidden layer 1")
    ):
        basis.assign_(values * 0)
    assert torch.equal(graph.weights(), before)


def test_zero_skeleton_weight_is_named() -> None:
    rnn, head = nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2)
    with torch.no_grad():
        rnn.weight_ih_l0[4, 1] = 0.0
    message = (
        "the in-skeleton weight of unit 4 in hidden layer 1 must be nonzero and finite, got 0.0; "
        "change it, or start from another init"
    )
    with pytest.raises(ValueError, match=refused(message)):
        pathrnn.BasisPaths(pathrnn.ReductionGraph(rnn, head))
