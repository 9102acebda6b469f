"""Training runs: repeatable, paired over arms, finite at the defaults, and honest about divergence."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pathrnn
from bench import registry
from bench import suite as suites
from bench import train as training
from bench.entries import SpaceEntry, TaskEntry
from bench.errors import CheckFailedError, InputError
from bench.log import OPENING
from bench.runs import Run
from bench.tasks import Split
from bench.train import build, evaluate, load_task, order_of, orders, task_of, train
from tests.bench.conftest import ROOT, needs_data

SUITE = suites.load(ROOT / "suites" / "accuracy.toml")
EMBEDDED = SUITE.arm_settings("embedded")
TASKS = [*SUITE.profiles["embedded"].updates, pytest.param("mnist_rows", marks=needs_data)]
PLACE = "rule momentum in weight space on digits_rows (init default): "
RELU = SpaceEntry(space="weight")


def one_run(tiny: Path, **changes: Any) -> Run:
    run = suites.load(tiny).tuning_runs("embedded", ["digits_rows"])[0]
    return run.model_copy(update=changes)


def entry(tiny: Path, **changes: Any) -> TaskEntry:
    return one_run(tiny).task.model_copy(update=changes)


def test_a_run_repeats_exactly_and_leaves_the_global_generator_alone(tiny: Path) -> None:
    random_state = torch.get_rng_state()
    first, second = train(one_run(tiny)), train(one_run(tiny))
    assert torch.equal(torch.get_rng_state(), random_state)
    for record in (first, second):
        record.pop("seconds")
        seconds = record.pop("curve_seconds")
        assert 0 < seconds[0] < seconds[1]
    assert first == second
    assert first["status"] == "finished"
    assert first["curve_update"] == [3, 6]
    assert len(first["opening"]) == OPENING == 3
    assert first["curve_train_loss"][0] == sum(first["opening"]) / 3
    assert json.loads(first["environment"])["torch"] == torch.__version__
    assert json.loads(first["specification"])["task"]["hidden"] == 8


@pytest.mark.parametrize("space", ["path", "gauge", "path_sgd"])
def test_arms_share_initial_weights_and_batches(tiny: Path, space: str) -> None:
    options = {"optimizer": "SGD", "options": {}} if space == "path_sgd" else {}
    rule = one_run(tiny).rule.model_copy(update=options)
    runs = [
        one_run(tiny, space=SpaceEntry(space=name), rule=rule, updates=1, evaluations=1) for name in ("weight", space)
    ]
    models = [build(run, task_of(run.task))[0] for run in runs]
    inputs = task_of(runs[0].task).test.inputs
    torch.testing.assert_close(models[0](inputs), models[1](inputs))  # in the fixed gauge other weights, once balanced
    if space != "gauge":
        assert torch.equal(models[0].graph.weights(), models[1].graph.weights())
    weight, other = (train(run) for run in runs)
    assert weight["curve_train_loss"] == pytest.approx(other["curve_train_loss"], rel=1e-5)
    assert weight["key"] != other["key"]


def test_batches_pass_over_the_data_again_and_again() -> None:
    split = load_task("digits", '{"steps": 8}').validation
    stream = orders(len(split.inputs), 100, 3)
    passes = [torch.cat([split.targets[next(stream)] for _ in range(3)]) for _ in range(2)]
    assert torch.equal(passes[0].sort().values, split.targets.sort().values)
    assert not torch.equal(passes[0], passes[1])


@pytest.mark.parametrize("space", ["weight", "path"])
def test_divergence_is_an_outcome(tiny: Path, space: str) -> None:
    record = train(one_run(tiny, space=SpaceEntry(space=space), lr=1e30, max_norm=None))
    assert record["status"] == "diverged"
    assert "loss is" in record["reason"] or "must be" in record["reason"]
    assert math.isnan(record["test"])
    assert math.isnan(record["validation"])


def test_divergence_in_the_last_update_is_seen(tiny: Path) -> None:
    record = train(one_run(tiny, lr=1e38, updates=1, evaluations=1, max_norm=None))
    assert record["status"] == "diverged"
    assert record["reason"].endswith("at an evaluation")


class Broken(torch.optim.SGD):
    """A foreign optimizer with a bug of its own."""

    def step(self, closure: Any = None) -> Any:
        raise ValueError("a bug in my code")


@pytest.mark.parametrize("space", ["weight", "path", "gauge"])
def test_a_bug_of_an_optimizer_is_no_divergence(tiny: Path, monkeypatch: pytest.MonkeyPatch, space: str) -> None:
    monkeypatch.setitem(registry.OPTIMIZERS, "Broken", f"{__name__}:Broken")
    rule = one_run(tiny).rule.model_copy(update={"optimizer": "Broken"})
    message = "momentum in weight space on digits_rows, seed 0, rate 0.01: a bug in my code"
    with pytest.raises(CheckFailedError, match="^" + re.escape(message) + "$"):
        train(one_run(tiny, space=SpaceEntry(space=space), rule=rule))


@pytest.mark.parametrize("test_at", ["end", "best"])
def test_test_data_are_used_once_at_the_point_that_the_suite_names(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, test_at: str
) -> None:
    """At a rate so large that the validation metric goes up and down."""
    run = one_run(tiny, lr=1.0, updates=40, evaluations=20, test_at=test_at, role="test")
    test, seen = task_of(run.task).test, []

    def spy(model: torch.nn.Module, task: Any, split: Split) -> float:
        value = evaluate(model, task, split)
        seen.append((split is test, value))
        return value

    monkeypatch.setattr(training, "evaluate", spy)
    record = train(run)
    validation = record["curve_validation"]
    assert max(validation) > validation[-1]
    assert [is_test for is_test, _ in seen] == [False] * 20 + [True]
    assert record["test"] == seen[-1][1]
    assert record["validation"] == (max(validation) if test_at == "best" else validation[-1])
    other = train(run.model_copy(update={"test_at": "best" if test_at == "end" else "end"}))
    assert other["test"] != record["test"]
    seen.clear()
    assert math.isnan(train(run.model_copy(update={"role": "tuning"}))["test"])
    assert not any(is_test for is_test, _ in seen)


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("model", sorted(registry.MODELS))
def test_models_have_the_layers_they_are_asked_for(tiny: Path, model: str, layers: int, bias: bool) -> None:
    run = one_run(tiny, space=SpaceEntry(space="weight", model=model), task=entry(tiny, layers=layers, bias=bias))
    built, _ = build(run, task_of(run.task))
    gates = {"relu": 1, "tanh": 1, "gru": 3, "lstm": 4}[model]
    shapes = {name: tuple(tensor.shape) for name, tensor in built.rnn.named_parameters()}
    assert len(shapes) == layers * (4 if bias else 2)
    assert shapes["weight_ih_l0"] == (8 * gates, 8)
    assert shapes[f"weight_hh_l{layers - 1}"] == (8 * gates, 8)
    assert (built.head.bias is not None) == bias
    assert built(torch.zeros(3, 5, 8)).shape == (3, 10)
    assert built.rnn.batch_first


@pytest.mark.parametrize("init", sorted(registry.INITS))
def test_every_init_is_the_same_for_all_arms_and_trains(tiny: Path, init: str) -> None:
    runs = [one_run(tiny, space=SpaceEntry(space=space), task=entry(tiny, init=init)) for space in ("weight", "path")]
    weights = [build(run, task_of(run.task))[0].graph.weights() for run in runs]
    torch.testing.assert_close(weights[0], weights[1])
    assert train(runs[1])["status"] == "finished"


def test_the_balanced_init_is_the_default_as_a_function(tiny: Path) -> None:
    outputs: dict[str, Tensor] = {}
    norms: dict[str, float] = {}
    for init in ("default", "balanced"):
        run = one_run(tiny, space=RELU, task=entry(tiny, init=init, rescale=0.0))
        model, _ = build(run, task_of(run.task))
        outputs[init] = model(task_of(run.task).test.inputs)
        norms[init] = float(model.graph.weights().norm())
    torch.testing.assert_close(outputs["default"], outputs["balanced"], rtol=1e-4, atol=1e-5)
    assert norms["balanced"] < norms["default"]


def test_the_identity_init_scales_the_inputs(tiny: Path) -> None:
    models = {}
    for scale in (1.0, 0.25):
        task = entry(tiny, init="identity", layers=2, init_options={"input_scale": scale})
        models[scale], _ = build(one_run(tiny, space=RELU, task=task), load_task("digits", '{"steps": 8}'))
    for layer in (0, 1):
        whole, part = (getattr(models[scale].rnn, f"weight_ih_l{layer}") for scale in (1.0, 0.25))
        torch.testing.assert_close(whole / 4, part)
        assert torch.equal(getattr(models[0.25].rnn, f"weight_hh_l{layer}"), torch.eye(8))
    assert torch.equal(models[1.0].head.weight, models[0.25].head.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"space": SpaceEntry(space="path", options={"skeleton": "best"})},
            "skeleton must be one of ['index', 'magnitude'], got 'best'",
        ),
        (
            {"space": SpaceEntry(space="path", options={"lr": 1.0})},
            "unknown option 'lr'; space path has coordinates, skeleton, max_step_ratio",
        ),
        (
            {"space": SpaceEntry(space="gauge", options={"every": "ten"})},
            "option every of space gauge must be of type int, as 10 is, got 'ten'",
        ),
        (
            {"space": SpaceEntry(space="path_sgd")},
            "path_sgd is itself an optimizer: its rule must be SGD with no options but the rate",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(tiny: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(PLACE + message) + "$"):
        train(one_run(tiny, **changes))


def test_muon_for_a_baseline_is_refused(tiny: Path) -> None:
    rule = one_run(tiny).rule.model_copy(update={"optimizer": "Muon", "options": {}})
    with pytest.raises(InputError, match="Muon here needs a ReLU network, which tells it the matrices into hidden"):
        train(one_run(tiny, space=SpaceEntry(space="weight", model="gru"), rule=rule))


def test_an_init_option_that_does_not_exist_is_named(tiny: Path) -> None:
    with pytest.raises(InputError, match=re.escape("unknown option 'scale'; init identity has input_scale")):
        train(one_run(tiny, task=entry(tiny, init="identity", init_options={"scale": 1.0})))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("rule_name", sorted(rule for space, rule in EMBEDDED if space == "path"))
def test_path_space_at_its_defaults_stays_finite_at_every_rate(name: str, rule_name: str) -> None:
    _, rule = EMBEDDED["path", rule_name]
    profile = "mnist" if name == "mnist_rows" else "embedded"
    run = SUITE.outlines(profile, name)[0].model_copy(update={"lr": 0.1})
    task = task_of(run.task)
    for rate in rule.rates:
        model, _ = build(run, task)
        optimizer_class = registry.resolve(registry.OPTIMIZERS, rule.optimizer)
        optimizer = pathrnn.PathSpace(model.parameters(), model.graph, optimizer_class, lr=rate, **rule.options)
        for chosen in islice(order_of(run, task), 40):
            batch = Split(task.train.inputs[chosen], task.train.targets[chosen])
            optimizer.zero_grad()
            loss = task.loss(model(task.encode(batch.inputs)), batch.targets)
            loss.backward()
            optimizer.step()
        assert math.isfinite(loss.item())
        assert torch.isfinite(model.graph.weights()).all()
