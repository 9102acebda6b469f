"""The balanced gauge: unique, function-preserving, the one that cyclic closed-form updates find."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from torch import nn

import pathrnn
from bench.networks import Case, case, forward
from tests.cases import cases
from tests.slow_twin import SlowBasis, flat


@given(cases)
def test_balancing_agrees_with_unit_by_unit_updates_from_any_representative(drawn: Case) -> None:
    outputs = forward(drawn.graph, drawn.inputs).detach()
    expected = SlowBasis(drawn.graph, "index").balance(flat(drawn.graph))
    drawn.graph.rescale_(drawn.scales)
    pathrnn.balance_(drawn.graph)
    torch.testing.assert_close(drawn.graph.weights(), expected, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(
        forward(drawn.graph, drawn.inputs), outputs, rtol=1e-10, atol=1e-10 * float(outputs.abs().max())
    )


def test_extreme_rescaling_is_undone() -> None:
    drawn = case((3, 5, 5, 2), bias=True, seed=4)
    pathrnn.balance_(drawn.graph)
    balanced = drawn.graph.weights()
    drawn.graph.rescale_([torch.exp(torch.linspace(-20, 20, 5, dtype=torch.float64))] * 2)
    pathrnn.balance_(drawn.graph)
    torch.testing.assert_close(drawn.graph.weights(), balanced, rtol=1e-10, atol=0)


def test_a_strong_cycle_cannot_make_it_oscillate() -> None:
    graph = case((1, 2, 1), bias=False, seed=0).graph
    into, recurrent, out = graph.parameters()
    with torch.no_grad():
        recurrent.copy_(torch.tensor([[0.0, 1e4], [1e2, 0.0]]))
    pathrnn.balance_(graph)
    squares = (recurrent.detach() * (1 - torch.eye(2))).square()
    incoming = into.square().sum(1) + squares.sum(1)
    outgoing = out.square().sum(0) + squares.sum(0)
    torch.testing.assert_close(incoming, outgoing, rtol=1e-12, atol=0)
    assert float(squares[0, 1] * squares[1, 0]) == pytest.approx(1e12, rel=1e-12)


@pytest.mark.parametrize(("side", "name"), [("incoming", "weight_ih_l0"), ("outgoing", "weight")])
def test_a_unit_without_weights_is_named(side: str, name: str) -> None:
    rnn, head = nn.RNN(3, 4, nonlinearity="relu", bias=False), nn.Linear(4, 2)
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
        (rnn.weight_ih_l0[2] if side == "incoming" else head.weight[:, 2]).zero_()
    message = (
        f"the sum of squared {side} weights (self-loops apart) of unit 2 in hidden layer 1 must be nonzero and finite, "
        "got 0.0; start from another init, or call pathrnn.init.skeleton_ones_"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        pathrnn.balance_(pathrnn.ReductionGraph(rnn, head))
