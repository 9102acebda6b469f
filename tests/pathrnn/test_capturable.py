"""``capturable=True``: the same steps, without a question to the device, so that a CUDA graph can hold them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pathrnn
from bench.networks import AnyWidths, case
from pathrnn.space import build_rule
from tests.pathrnn.arms import RULES
from tests.tape import Tape, rules_capturable_on_a_cpu

STACKED = sorted(set(RULES) - {"muon"})  # which takes matrices alone
COORDINATES = ["relative", "normalised", "raw"]


@pytest.fixture(autouse=True)
def on_a_cpu() -> Iterator[None]:
    with rules_capturable_on_a_cpu():
        yield


def network(replicas: int, layers: int = 2, seed: int = 0) -> pathrnn.ReductionGraph:
    alone = [case((3, *[4] * layers, 2), bias=True, seed=seed + own).graph for own in range(max(1, replicas))]
    if not replicas:
        return alone[0]
    copies = zip(*(graph.parameters() for graph in alone), strict=True)
    return AnyWidths([nn.Parameter(torch.stack(same).detach()) for same in copies], alone[0].wiring())


def optimizer(graph: pathrnn.ReductionGraph, rule: str, **options: Any) -> pathrnn.PathSpace:
    return pathrnn.PathSpace(graph.parameters(), graph, RULES[rule], **{"max_path_norm": 0.05, **options})


def gradients(graph: pathrnn.ReductionGraph, step: int) -> list[Tensor]:
    """So large that they are clipped, and so small that they are not, in turns."""
    generator, size = torch.Generator().manual_seed(step), 0.001 if step % 2 else 1.0
    return [size * torch.randn(own.shape, generator=generator, dtype=own.dtype) for own in graph.parameters()]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize(("rule", "replicas"), [*((rule, 0) for rule in RULES), *((rule, 3) for rule in STACKED)])
def test_replayed_steps_are_the_steps(rule: str, coordinates: str, replicas: int) -> None:
    """Three steps of Python, one that is recorded, four replays of it: as eight steps that may ask what they want."""
    graphs = [network(replicas), network(replicas)]
    own_rule = RULES[rule]
    if "capturable" in inspect.signature(own_rule).parameters:
        own_rule = partial(own_rule, capturable=True)  # which counts steps in float32
    ordinary, capturable = (
        pathrnn.PathSpace(
            graph.parameters(),
            graph,
            own_rule,
            coordinates=coordinates,
            capturable=own,
            max_path_norm=0.05,
            max_step_ratio=1e-5,
        )
        for graph, own in zip(graphs, (False, True), strict=True)
    )
    for parameter in graphs[1].parameters():
        parameter.grad = torch.zeros_like(parameter)
    tape = Tape()
    for step in range(8):
        for own, grad in zip(graphs[0].parameters(), gradients(graphs[0], step), strict=True):
            own.grad = grad
        for own, grad in zip(graphs[1].parameters(), gradients(graphs[1], step), strict=True):
            own.grad.copy_(grad)
        ordinary.step()
        if step < 3:
            capturable.step()
        elif step == 3:
            with tape:
                capturable.step()
        else:
            tape.replay()
        for own, expected in zip(graphs[1].parameters(), graphs[0].parameters(), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-14)
    assert int(capturable.guard_count) == int(ordinary.guard_count)
    assert (int(ordinary.guard_count) > 0) == (coordinates != "relative")


@pytest.mark.parametrize("layers", [1, 4])
def test_a_step_is_a_handful_of_launches(layers: int) -> None:
    """Of SGD: per layer, the skeleton's gradients to zero and its weights in place; all else once."""
    rnn, head = nn.RNN(3, 8, layers, nonlinearity="relu"), nn.Linear(8, 2)
    params, graph = [*rnn.parameters(), *head.parameters()], pathrnn.ReductionGraph(rnn, head)
    optimizer = pathrnn.PathSpace(params, graph, torch.optim.SGD, lr=0.1, foreach=True, capturable=True)
    head(rnn(torch.randn(5, 4, 3))[0][-1]).sum().backward()
    optimizer.step()
    with Tape() as tape:
        optimizer.step()
    assert len(tape.launches) == 8 + 2 * layers, tape.launches


def test_an_ordinary_step_asks_the_host() -> None:
    """Lest the tape see nothing."""
    graph = network(0)
    ordinary = optimizer(graph, "sgd")
    for parameter in graph.parameters():
        parameter.grad = torch.ones_like(parameter)
    ordinary.step()
    with pytest.raises(RuntimeError, match="waits for the device"), Tape():
        ordinary.step()


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_weights_that_others_change_are_noticed(coordinates: str) -> None:
    graphs = [network(0), network(0)]
    scales = [torch.rand(4, dtype=torch.float64) + 0.5 for _ in range(2)]
    for graph, own in zip(graphs, (False, True), strict=True):
        trained = optimizer(graph, "momentum", coordinates=coordinates, capturable=own)
        for step in range(6):
            for parameter, grad in zip(graph.parameters(), gradients(graph, step), strict=True):
                parameter.grad = grad
            if step == 3:
                graph.rescale_(scales)
            if step == 4:
                trained = copy.deepcopy(trained)
                graph = trained.graph
                for parameter, grad in zip(graph.parameters(), gradients(graph, step), strict=True):
                    parameter.grad = grad
            trained.step()
        graphs[int(own)] = graph
    for own, expected in zip(graphs[1].parameters(), graphs[0].parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-14)


def test_what_is_not_finite_goes_on_as_in_rules_of_torch() -> None:
    graph = network(3)
    capturable = optimizer(graph, "sgd", capturable=True)
    for parameter in graph.parameters():
        parameter.grad = torch.ones_like(parameter)
    graph.parameters()[0].grad[1, 2, 0] = torch.inf
    capturable.step()
    finite = torch.stack([torch.isfinite(own).flatten(1).all(1) for own in graph.parameters()]).all(0)
    assert finite.tolist() == [True, False, True]


@pytest.mark.parametrize("rule", ["adam", "adamw", "rmsprop", "muon"])
def test_rules_that_have_it_are_given_it(rule: str) -> None:
    graph = network(0)
    for optimizer_, expected in (
        (build_rule(RULES[rule], graph.parameters(), graph, captured=True), True),
        (optimizer(graph, rule, capturable=True), True),
        (build_rule(RULES[rule], graph.parameters(), graph), False),
        (optimizer(graph, rule), False),
    ):
        assert any(group.get("capturable") for group in optimizer_.param_groups) == expected


def test_what_the_caller_says_of_a_rule_holds() -> None:
    graph = network(0)
    own = partial(torch.optim.Adam, lr=0.1, capturable=True)
    for built in (optimizer_of(graph, own) for optimizer_of in (gauge_fixed, path_space, build)):
        assert built.param_groups[0]["capturable"]
    assert gauge_fixed(graph, torch.optim.Adam, capturable=True, lr=0.1).param_groups[0]["capturable"]


def gauge_fixed(graph: pathrnn.ReductionGraph, rule: Any, **settings: Any) -> torch.optim.Optimizer:
    return pathrnn.GaugeFixed(graph.parameters(), graph, rule, **settings)


def path_space(graph: pathrnn.ReductionGraph, rule: Any) -> torch.optim.Optimizer:
    return pathrnn.PathSpace(graph.parameters(), graph, rule)


def build(graph: pathrnn.ReductionGraph, rule: Any) -> torch.optim.Optimizer:
    return build_rule(rule, graph.parameters(), graph)


def test_a_checkpoint_does_not_change_when_training_goes_on() -> None:
    graph = network(0)
    trained = optimizer(graph, "sgd", coordinates="normalised", max_step_ratio=1e-5)

    def step() -> None:
        for parameter, grad in zip(graph.parameters(), gradients(graph, 0), strict=True):
            parameter.grad = grad
        trained.step()

    step()
    saved = trained.state_dict()
    count = int(saved["space"]["guard_count"])
    step()
    assert int(trained.guard_count) > int(saved["space"]["guard_count"]) == count > 0
    trained.load_state_dict(saved)
    step()
    assert int(trained.guard_count) > int(saved["space"]["guard_count"]) == count
    saved["space"]["guard_count"] = count  # as checkpoints had it before
    trained.load_state_dict(saved)
    step()
    assert int(trained.guard_count) > count
