"""Stacks: what a replica comes to does not depend on the others, and is what nn.RNN comes to alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import device, registry, stack, train
from bench import suite as suites
from bench.errors import CheckFailedError
from bench.groups import capacity, kind, stacks
from bench.replicas import Replicas, _affine
from bench.runs import Run
from bench.stack import CAPTURABLE, train_stack
from bench.tasks import Task
from bench.train import task_of
from tests import tape
from tests.bench.conftest import ROOT

SUITE = suites.load(ROOT / "suites" / "accuracy.toml")
ABLATION = suites.load(ROOT / "suites" / "ablation.toml")
OUTLINES = {
    f"{suite.name} {run.name} {run.space_name} {run.rule_name}": run
    for suite, tasks in ((SUITE, ["digits_rows", "reber", "adding"]), (ABLATION, ["digits_rows"]))
    for task in tasks
    for run in suite.outlines("embedded", task)
    if run.space.model == "relu"
}
SOME = [name for name in OUTLINES if "accuracy digits" in name]
ASIDE = {"seconds", "curve_seconds", "stack", "environment"}
ONE_OUTPUT = ["accuracy adding path momentum", "accuracy reber gauge adam", "accuracy adding weight momentum"]


def replicas(outline: Run, rates: tuple[float, ...], seeds: int = 2, **changes: Any) -> list[Run]:
    """Runs of an arm: every seed at every rate."""
    changes = {"updates": 20, "evaluations": 2, **changes}
    return [outline.model_copy(update={"index": i, "lr": lr, **changes}) for i in range(seeds) for lr in rates]


def outcome(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what depends on how it was made; NaN equals itself as text."""
    return {name: repr(value) for name, value in record.items() if name not in ASIDE}


@pytest.mark.parametrize("test_at", ["end", "best"])
@pytest.mark.parametrize("name", [*SOME, *ONE_OUTPUT])
def test_the_outcome_does_not_depend_on_the_stack(name: str, test_at: str) -> None:
    runs = replicas(OUTLINES[name], (0.003, 0.1), role="test", test_at=test_at, updates=40, evaluations=20)
    together = train_stack(runs)
    assert [record["key"] for record in together] == [run.key for run in runs]
    assert {record["stack"] for record in together} == {4}
    apart = [*train_stack(runs[:1]), *train_stack(runs[3:0:-1])[::-1]]
    assert [outcome(record) for record in together] == [outcome(record) for record in apart]
    assert len({outcome(record)["curve_train_loss"] for record in together}) == 4
    assert all(json.loads(record["environment"])["recurrence"] == "relu_scan" for record in together)


@pytest.mark.parametrize(("into", "out"), [(1, 8), (8, 1), (1, 1), (3, 5)])
@pytest.mark.parametrize("biases", [0, 2])
def test_products_do_not_depend_on_the_number_of_replicas(into: int, out: int, biases: int) -> None:
    sequence, weight = torch.randn(4, 6, 32, into), torch.randn(4, out, into)
    added = [torch.randn(4, out) for _ in range(biases)]
    results = []
    for count in (4, 1):
        own = [tensor[:count].clone().requires_grad_() for tensor in (sequence, weight, *added)]
        product = _affine(own[0], own[1], own[2:])
        results.append([product, *torch.autograd.grad(product.square().sum(), own)])
    for all_, one in zip(*results, strict=True):
        assert torch.equal(all_[:1], one)
    expected = sequence @ weight.mT.unsqueeze(1) + sum(added, torch.zeros(4, out))[:, None, None]
    torch.testing.assert_close(results[0][0], expected)


def in_doubles(task: Task) -> Task:
    """The task in float64, where rounding is too small for training to make it visible."""
    splits = [
        split._replace(targets=split.targets.double()) if split.targets.is_floating_point() else split
        for split in task.splits
    ]
    names = ("train", "validation", "test")
    return replace(task, encode=lambda inputs: task.encode(inputs).double(), **dict(zip(names, splits, strict=True)))


@pytest.mark.parametrize("name", OUTLINES)
def test_a_replica_is_the_run_alone_with_the_layers_of_torch_for_200_steps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, at the smallest rate of the grid, and on sums of ten steps: else some runs amplify 1e-16 to 1e-3.

    Sums, and raw coordinates, at a tenth of it.
    """
    torch.set_default_dtype(torch.float64)
    for module in (train, stack):
        monkeypatch.setattr(module, "task_of", lambda entry: in_doubles(task_of(entry)))
    run = OUTLINES[name]
    rate = run.lr / 10 if "raw" in name or run.name == "adding" else run.lr
    short = run.task.model_copy(update={"options": {"length": 10}}) if run.name == "adding" else run.task
    runs = replicas(run, (rate,), updates=200, evaluations=10, task=short)
    for own, alone in zip(train_stack(runs), map(train.train, runs), strict=True):
        assert own["status"] == alone["status"] == "finished"
        assert own["opening"] == pytest.approx(alone["opening"], rel=1e-9)
        assert own["curve_train_loss"] == pytest.approx(alone["curve_train_loss"], rel=1e-3)


def record_on_tape(monkeypatch: pytest.MonkeyPatch) -> list[tape.Recording]:
    """Let a tape stand for CUDA graphs: it runs the same operations on the same memory, and Python does not."""
    recordings: list[tape.Recording] = []

    def record(function: Callable[[], Tensor]) -> tape.Recording:
        recordings.append(tape.record(function))
        return recordings[-1]

    monkeypatch.setattr(stack.Training, "recorded", True)
    monkeypatch.setattr(device, "_aside", lambda function: (function(), False))
    monkeypatch.setattr(device, "_recorded", record)
    return recordings


@pytest.mark.parametrize("space", ["weight", "path", "gauge", "path_normalised"])
def test_a_replica_that_diverges_is_recorded_and_touches_no_neighbour(space: str) -> None:
    outline = OUTLINES[f"ablation digits_rows {space} adam"].model_copy(update={"max_norm": None})
    runs = replicas(outline, (0.001, 1e25), updates=40, role="test")
    together, apart = train_stack(runs), [record for run in runs for record in train_stack([run])]
    assert [record["status"] for record in together] == ["finished", "diverged"] * 2
    assert [outcome(record) for record in together[::2]] == [outcome(record) for record in apart[::2]]
    for record, alone in zip(together[1::2], map(train.train, runs[1::2]), strict=True):
        assert record["status"] == alone["status"] == "diverged"
        assert record["reason"]
        assert math.isnan(record["test"])
        assert math.isnan(record["validation"])
    assert not any(math.isnan(record["test"]) for record in together[::2])


def test_the_test_data_are_used_at_the_best_point_of_each_replica() -> None:
    """At rates at which the validation metric goes up and down, elsewhere for every replica."""
    outline = OUTLINES["accuracy digits_rows weight adam"]
    runs = replicas(outline, (0.1, 0.3), updates=40, evaluations=20, role="test", test_at="best")
    together, apart = train_stack(runs), [record for run in runs for record in train_stack([run])]
    best = [max(range(20), key=record["curve_validation"].__getitem__) for record in together]
    assert len(set(best)) > 1
    assert min(best) < 19
    assert [record["test"] for record in together] == [record["test"] for record in apart]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_replica_that_has_diverged_stays_where_it_began(recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    record_on_tape(monkeypatch) if recorded else None
    training = stack.Training(replicas(OUTLINES[SOME[0]], (0.01,), max_norm=None), task_of(OUTLINES[SOME[0]].task))
    steps = training.steps()
    for _ in range(6):
        next(steps)
    assert training.alive.all()
    for parameter in training.parameters:
        parameter.data[1] = torch.inf
    for _ in range(3):
        next(steps)
        assert training.alive.tolist() == [True, False]
    training._freeze()
    for parameter, initial in zip(training.parameters, training.initial, strict=True):
        assert torch.equal(parameter[1], initial[1])
        assert not torch.equal(parameter[0], initial[0])


def test_a_skeleton_weight_that_vanishes_stops_its_replica_alone() -> None:
    """Raw coordinates without a guard, of which a step of the right length ends at zero: PathSpace refuses the next."""
    runs = replicas(OUTLINES["ablation digits_rows path_raw adam"], (0.001,), seeds=3, updates=12)
    task = task_of(runs[0].task)
    broken, whole = stack.Training(runs, task), stack.Training(runs, task)
    steps = zip(broken.steps(), whole.steps(), strict=True)
    for _ in range(5):
        assert torch.equal(*next(steps))
    broken.parameters[0].data[1] = 0
    for _ in range(5):
        losses, expected = next(steps)
        assert torch.equal(losses[::2], expected[::2])
    assert [log.diverged for log in broken.logs] == [False, True, False]
    assert "must be nonzero and finite, got 0.0" in broken.logs[1].reason
    assert "(replica 1)" in broken.logs[1].reason


class Broken(torch.optim.SGD):
    """A foreign optimizer with a bug of its own."""

    def step(self, closure: Any = None) -> Any:
        raise ValueError("a bug in my code")


def test_a_bug_of_an_optimizer_is_no_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.OPTIMIZERS, "Broken", f"{__name__}:Broken")
    run = OUTLINES[SOME[0]]
    rule = run.rule.model_copy(update={"optimizer": "Broken"})
    with pytest.raises(CheckFailedError, match=r"on digits_rows, seed 0, rate 0\.01: a bug in my code$"):
        train_stack(replicas(run, (0.01, 0.1), rule=rule))


def test_what_is_trained_together() -> None:
    runs = [run for name in SOME for run in replicas(OUTLINES[name], (0.001, 0.01), seeds=5)]
    groups = stacks(runs, "cpu", 100)
    assert sorted(run.key for group in groups for run in group) == sorted(run.key for run in runs)
    assert [len(group) for group in groups] == [5, 5] * len(SOME)
    assert all(len({kind(run) for run in group}) == 1 for group in groups)
    assert [len(group) for group in stacks(runs[:10], "cpu", 3)] == [2, 3, 2, 3]
    gru = [run for run in SUITE.outlines("embedded", "reber") if run.space.model != "relu"]
    assert gru
    gru += [run.model_copy(update={"index": 1}) for run in gru]
    assert [len(group) for group in stacks(gru, "cpu", 8)] == [1] * len(gru)
    wide = runs[0].model_copy(update={"task": runs[0].task.model_copy(update={"hidden": 129})})
    assert (capacity(runs[0], "cpu"), capacity(wide, "cpu")) == (8, 1)
    path_sgd = [run.model_copy(update={"space": run.space.model_copy(update={"space": "path_sgd"})}) for run in runs]
    assert kind(path_sgd[0]) != kind(path_sgd[1])  # which has one rate


def test_path_sgd_is_stacked_by_its_rate() -> None:
    outline = OUTLINES[SOME[0]]
    rule = outline.rule.model_copy(update={"optimizer": "SGD", "options": {}})
    space = outline.space.model_copy(update={"space": "path_sgd", "options": {}})
    runs = replicas(outline, (0.001,), seeds=3, rule=rule, space=space)
    assert [outcome(record) for record in train_stack(runs)] == [outcome(train_stack([run])[0]) for run in runs]
    assert train_stack(runs)[1]["opening"] == pytest.approx(train.train(runs[1])["opening"], rel=1e-5)


def test_rules_that_work_entry_by_entry_take_neighbours_of_a_rate_as_one() -> None:
    runs = replicas(OUTLINES["accuracy digits_rows gauge adam"], (0.01, 0.1))
    ordered = sorted(runs, key=lambda run: run.lr)
    training = stack.Training(ordered, task_of(runs[0].task))
    next(training.steps())
    rules = training.step.optimizer.rule
    assert isinstance(rules, Replicas)
    assert [part.at for part in rules.parts] == [slice(0, 2), slice(2, 4)]
    moments = rules.state[training.parameters[0]]["exp_avg"]
    assert moments.shape == training.parameters[0].shape
    assert all(part.optimizer.state[part.views[0]]["exp_avg"]._base is moments for part in rules.parts)


REPLAYED = [
    *((f"accuracy digits_rows {space}", rule) for space in ("weight", "path") for rule in sorted(CAPTURABLE[1])),
    ("accuracy adding path", "Adam"),
    ("ablation digits_rows path_raw", "SGD"),
    ("accuracy digits_rows gauge", "Adam"),  # of which all but the step is recorded
]


def trained(name: str, rule: str, *, record: bool) -> list[Tensor]:
    """Losses of thirteen updates of three replicas, of which two diverge while updates are replayed."""
    with pytest.MonkeyPatch.context() as patch, tape.rules_capturable_on_a_cpu():
        recordings = record_on_tape(patch)
        if not record:
            patch.setattr(stack, "calls", lambda function, _: device.calls(function, record=False))
        outline = next(run for full, run in OUTLINES.items() if full.startswith(f"{name} "))
        rule_ = outline.rule.model_copy(update={"optimizer": rule, "options": {}})
        runs = [replicas(outline, (rate,), seeds=1, rule=rule_)[0] for rate in (1e-5, 1e-4, 1e-3)]
        training = stack.Training(runs, task_of(runs[0].task))
        steps = training.steps()
        losses = [next(steps).clone() for _ in range(7)]
        training._diverge(1, "what an evaluation would find")
        losses += [next(steps).clone() for _ in range(3)]
        training.parameters[0].data[2] = torch.nan
        losses += [next(steps).clone() for _ in range(3)]
        assert training.alive.tolist() == [True, False, False]
        assert len(recordings) == record
        return losses


@pytest.mark.parametrize(("name", "rule"), REPLAYED)
def test_updates_replayed_as_a_cuda_graph_does_are_the_updates(name: str, rule: str) -> None:
    losses = trained(name, rule, record=True)
    torch.testing.assert_close(losses, trained(name, rule, record=False), rtol=0, atol=0, equal_nan=True)
    assert torch.isfinite(torch.stack(losses)[:, 0]).all()
    assert len({float(loss[0]) for loss in losses}) == len(losses)


MEMORY = """
import logging, resource, sys, torch
from tests.bench.test_stack import OUTLINES, replicas
from bench.stack import train_stack
torch.set_num_threads(1)
logging.basicConfig(format="%(message)s", stream=sys.stdout)
run = OUTLINES["accuracy digits_rows weight momentum"]
task = run.task.model_copy(update={"hidden": 512, "batch": 512})
runs = replicas(run, (0.001, 0.01), seeds=4, updates=2, task=task)
alone = train_stack(runs[:1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 120 * 2**20, resource.RLIM_INFINITY))
records = train_stack(runs)
assert [record["key"] for record in records] == [run.key for run in runs]
print(sorted(record["stack"] for record in records), records[0]["curve_train_loss"] == alone[0]["curve_train_loss"])
"""


def test_a_stack_that_memory_cannot_hold_is_halved_and_goes_on() -> None:
    """With a real limit of the operating system."""
    command = [sys.executable, "-c", MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    *lines, last = result.stdout.splitlines()
    assert lines[0] == "memory does not suffice for 8 replicas of digits_rows; going on with 4"
    assert last.endswith("True")
    assert "8, 8" not in last
