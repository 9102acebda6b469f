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


UNREACHED = "every hidden unit must be reached from an input or a bias, and reach an output, by nonzero, finite weights"


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight"])
@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_unit_without_weights_is_named_and_nothing_changes(name: str, recurrent: bool, whole: bool) -> None:
    rnn, head = nn.RNN(3, 4, nonlinearity="relu", bias=False), nn.Linear(4, 2)
    unit = 0 if whole else 2
    with torch.no_grad():
        if not recurrent or not whole:
            rnn.weight_hh_l0.zero_()
        rows = rnn.weight_ih_l0 if name == "weight_ih_l0" else head.weight.T
        (rows if whole else rows[unit]).zero_()
    graph = pathrnn.ReductionGraph(rnn, head)
    before = graph.weights()
    for act in (pathrnn.balance_, pathrnn.path_condition_):
        with pytest.raises(ValueError, match=re.escape(f"{UNREACHED}, got none for unit {unit} in hidden layer 1")):
            act(graph)
    with pytest.raises(ValueError, match=re.escape(UNREACHED)):
        pathrnn.GaugeFixed(graph.parameters(), graph, torch.optim.SGD, lr=0.1)
    assert torch.equal(graph.weights(), before)


def test_units_that_hear_each_other_alone_are_refused() -> None:
    rnn, head = nn.RNN(3, 4, nonlinearity="relu", bias=False), nn.Linear(4, 2)
    with torch.no_grad():
        rnn.weight_ih_l0[:2] = 0.0
        rnn.weight_hh_l0[:2] = 0.0
        rnn.weight_hh_l0[0, 1] = rnn.weight_hh_l0[1, 0] = 0.5
    with pytest.raises(ValueError, match=re.escape(f"{UNREACHED}, got none for unit")):
        pathrnn.balance_(pathrnn.ReductionGraph(rnn, head))
