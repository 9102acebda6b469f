"""The reduction graph: order of edges, symmetry, refusals."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from torch import nn

import pathrnn
from bench.networks import Case, case, forward
from tests.cases import cases


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_reads_an_rnn_in_parameter_order(layers: int, bias: bool, batch_first: bool) -> None:
    rnn = nn.RNN(3, 5, layers, nonlinearity="relu", bias=bias, batch_first=batch_first)
    head = nn.Linear(5, 2, bias=bias)
    graph = pathrnn.ReductionGraph(rnn, head)
    parameters = [*rnn.parameters(), *head.parameters()]
    assert all(a is b for a, b in zip(graph.parameters(), parameters, strict=True))
    assert torch.equal(graph.weights(), torch.cat([p.detach().flatten() for p in parameters]))
    assert graph.num_weights == sum(p.numel() for p in parameters)
    assert graph.num_hidden == 5 * layers
    assert graph.names() == [f"rnn.{n}" for n, _ in rnn.named_parameters()] + [
        f"head.{n}" for n, _ in head.named_parameters()
    ]


@pytest.mark.parametrize("batch_first", [True, False])
def test_rescaling_an_rnn_leaves_its_function_and_moves_its_weights(batch_first: bool) -> None:
    torch.set_default_dtype(torch.float64)
    rnn, head = nn.RNN(3, 7, 3, nonlinearity="relu", batch_first=batch_first), nn.Linear(7, 2)
    graph, x = pathrnn.ReductionGraph(rnn, head), torch.randn(4, 6, 3)
    before, weights = head(rnn(x)[0]), graph.weights()
    graph.rescale_([torch.exp(torch.randn(7)) for _ in range(3)])
    torch.testing.assert_close(head(rnn(x)[0]), before, rtol=1e-10, atol=1e-13)
    assert (graph.weights() - weights).abs().max() > 0.1


def test_the_forward_pass_of_the_tests_is_that_of_torch() -> None:
    torch.set_default_dtype(torch.float64)
    rnn, head = nn.RNN(3, 7, 2, nonlinearity="relu"), nn.Linear(7, 2)
    x = torch.randn(4, 6, 3)
    torch.testing.assert_close(forward(pathrnn.ReductionGraph(rnn, head), x), head(rnn(x)[0]), rtol=1e-12, atol=1e-14)


@given(cases)
def test_function_is_unchanged_by_rescaling(drawn: Case) -> None:
    before = forward(drawn.graph, drawn.inputs).detach()
    drawn.graph.rescale_(drawn.scales)
    after = forward(drawn.graph, drawn.inputs)
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10 * float(before.abs().max()))


def test_weights_are_read_from_the_modules_not_cached() -> None:
    rnn, head = nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2)
    graph = pathrnn.ReductionGraph(rnn, head)
    other = nn.RNN(3, 5, nonlinearity="relu")
    rnn.load_state_dict(other.state_dict())
    assert torch.equal(graph.weights()[:15], other.weight_ih_l0.detach().flatten())


def refused(message: str) -> str:
    return "^" + re.escape(message)


@pytest.mark.parametrize(
    ("rnn", "head", "error", "message"),
    [
        (
            nn.RNN(3, 5),
            nn.Linear(5, 2),
            ValueError,
            "rnn.nonlinearity must be 'relu', got 'tanh'",
        ),
        (
            nn.LSTM(3, 5),
            nn.Linear(5, 2),
            TypeError,
            "rnn must be a torch.nn.RNN or an nn.Sequential of Linear and ReLU: path space needs plain ReLU units, "
            "got LSTM",
        ),
        (
            nn.GRU(3, 5),
            nn.Linear(5, 2),
            TypeError,
            "rnn must be a torch.nn.RNN or an nn.Sequential of Linear and ReLU: path space needs plain ReLU units, "
            "got GRU",
        ),
        (
            nn.RNN(3, 5, nonlinearity="relu", bidirectional=True),
            nn.Linear(5, 2),
            ValueError,
            "rnn.bidirectional must be False: one readout, one direction, got True",
        ),
        (nn.RNN(3, 5, nonlinearity="relu"), nn.ReLU(), TypeError, "head must be a torch.nn.Linear, got ReLU"),
        (
            nn.RNN(3, 5, nonlinearity="relu"),
            nn.Linear(4, 2),
            ValueError,
            "head.weight must have shape (2, 5), got (2, 4)",
        ),
        (
            nn.RNN(3, 5, nonlinearity="relu"),
            nn.Linear(5, 2).double(),
            TypeError,
            "head.weight must be of one real floating-point type with rnn.weight_ih_l0 (torch.float32), "
            "got torch.float64",
        ),
    ],
)
def test_unsupported_modules_are_refused(rnn: nn.RNN, head: nn.Linear, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=refused(message) + "$"):
        pathrnn.ReductionGraph(rnn, head)


def feed_forward(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), *modules, nn.Linear(5, 2))


@pytest.mark.parametrize(
    ("net", "kinds"),
    [
        (feed_forward(nn.Tanh()), ["Linear", "Tanh", "Linear"]),
        (feed_forward(nn.ReLU(), nn.LayerNorm(5)), ["Linear", "ReLU", "LayerNorm", "Linear"]),
        (feed_forward(nn.BatchNorm1d(5), nn.ReLU()), ["Linear", "BatchNorm1d", "ReLU", "Linear"]),
        (feed_forward(), ["Linear", "Linear"]),
        (nn.Sequential(nn.Linear(3, 5)), ["Linear"]),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU()), ["Linear", "ReLU"]),
        (nn.Sequential(*feed_forward(nn.ReLU()), nn.ReLU()), ["Linear", "ReLU", "Linear", "ReLU"]),
    ],
)
def test_feed_forward_networks_without_the_symmetry_are_refused(net: nn.Sequential, kinds: list[str]) -> None:
    message = (
        f"rnn must hold Linear, ReLU, Linear and so on, with positive scaling a symmetry between them, got {kinds}"
    )
    with pytest.raises(TypeError, match=refused(message) + "$"):
        pathrnn.ReductionGraph(net)


def test_a_feed_forward_network_has_no_other_head() -> None:
    message = (
        "head must be None for an nn.Sequential, whose last Linear is the readout, "
        "got Linear(in_features=2, out_features=2, bias=True)"
    )
    with pytest.raises(TypeError, match=refused(message) + "$"):
        pathrnn.ReductionGraph(feed_forward(nn.ReLU()), nn.Linear(2, 2))


def test_one_parameter_in_two_places_is_refused() -> None:
    tied = nn.Linear(5, 5)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), tied, nn.ReLU(), tied, nn.ReLU(), nn.Linear(5, 2))
    names = ["net.0.weight", "net.0.bias", *["net.2.weight", "net.2.bias"] * 2, "net.6.weight", "net.6.bias"]
    with pytest.raises(
        ValueError, match=refused(f"each parameter must stand in one place of the graph, got {names}") + "$"
    ):
        pathrnn.ReductionGraph(net)


def test_a_parametrised_weight_is_refused() -> None:
    head = nn.utils.parametrizations.weight_norm(nn.Linear(5, 2))
    with pytest.raises(
        TypeError, match=refused("a weight must be a plain Parameter, without parametrisation, got Tensor") + "$"
    ):
        pathrnn.ReductionGraph(nn.RNN(3, 5, nonlinearity="relu"), head)


@pytest.mark.parametrize("bias", [True, False])
def test_reads_a_feed_forward_network_and_rescales_it(bias: bool) -> None:
    torch.set_default_dtype(torch.float64)
    net = nn.Sequential(
        nn.Linear(3, 5, bias), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4, bias), nn.ReLU(), nn.Linear(4, 2, bias)
    ).eval()
    graph, x = pathrnn.ReductionGraph(net), torch.randn(6, 3)
    assert all(a is b for a, b in zip(graph.parameters(), net.parameters(), strict=True))
    assert graph.names() == [f"net.{name}" for name, _ in net.named_parameters()]
    assert graph.widths == [3, 5, 4, 2]
    before = net(x)
    graph.rescale_([torch.exp(torch.randn(5)), torch.exp(torch.randn(4))])
    torch.testing.assert_close(net(x), before, rtol=1e-10, atol=1e-13)


def test_shapes_that_do_not_chain_are_refused() -> None:
    rnn, head = nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2)
    rnn.weight_hh_l0 = nn.Parameter(torch.ones(5, 4))
    with pytest.raises(ValueError, match=refused("rnn.weight_hh_l0 must have shape (5, 5), got (5, 4)")):
        pathrnn.ReductionGraph(rnn, head)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([], "scales must hold one tensor per hidden layer, of last size [4], got []"),
        ([torch.ones(3)], "scales must hold one tensor per hidden layer, of last size [4], got [(3,)]"),
        ([torch.tensor([1.0, 2.0, 0.0, 1.0])], "scales[0] must be positive and finite, got [1.0, 2.0, 0.0, 1.0]"),
        ([torch.full((4,), torch.inf)], "scales[0] must be positive and finite, got [inf, inf, inf, inf]"),
        (
            [torch.full((4,), 1e-320, dtype=torch.float64)],
            "scales[0] must be positive and finite, got [1e-320, 1e-320, 1e-320, 1e-320]",
        ),
    ],
)
def test_bad_scales_are_refused(scales: list[torch.Tensor], message: str) -> None:
    graph = case((2, 4, 1), bias=True, seed=0).graph
    before = graph.weights()
    with pytest.raises(ValueError, match=refused(message)):
        graph.rescale_(scales)
    assert torch.equal(graph.weights(), before)


def test_a_missing_gradient_is_named() -> None:
    graph = pathrnn.ReductionGraph(nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2))
    message = "rnn.weight_ih_l0 must have a gradient, got None; call backward() on a loss first"
    with pytest.raises(ValueError, match=refused(message)):
        graph.gradients()
