"""Training runs: repeatable, paired over arms, finite at the defaults, and honest about divergence."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import pathrnn
from bench import registry
from bench import suite as suites
from bench.suite import Run
from bench.train import batches, build, load_task, task_of, train
from tests.bench.conftest import ROOT

SUITE = suites.load(ROOT / "suites" / "accuracy.toml")
TASKS = [
    pytest.param(
        name, marks=pytest.mark.skipif("PATHRNN_DATA" not in os.environ, reason="PATHRNN_DATA is not set: no MNIST")
    )
    if entry.task.startswith("mnist")
    else name
    for name, entry in SUITE.tasks.items()
]


def one_run(tiny: Path, **changes: Any) -> Run:
    run = suites.load(tiny).runs("embedded", "tuning", ["digits_rows"], {})[0]
    return run.model_copy(update=changes)


def test_a_run_repeats_exactly_and_leaves_the_global_generator_alone(tiny: Path) -> None:
    random_state = torch.get_rng_state()
    first, second = train(one_run(tiny)), train(one_run(tiny))
    assert torch.equal(torch.get_rng_state(), random_state)
    for record in (first, second):
        record.pop("seconds")
    assert first == second
    assert first["status"] == "finished"
    assert first["curve_update"] == [3, 6]
    assert json.loads(first["environment"])["torch"] == torch.__version__
    assert Run.model_validate_json(first["specification"]).key == first["key"]


def test_arms_share_initial_weights_and_batches(tiny: Path) -> None:
    runs = [one_run(tiny, space=space, updates=1, evaluations=1) for space in ("weight", "path")]
    models = [build(run, task_of(run))[0] for run in runs]
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    weight, path = (train(run) for run in runs)
    assert weight["curve_train_loss"] == path["curve_train_loss"]
    assert weight["key"] != path["key"]


def test_batches_pass_over_the_data_again_and_again() -> None:
    split = load_task("digits", '{"steps": 8}').validation
    stream = batches(split, 100, 3)
    passes = [torch.cat([next(stream).targets for _ in range(3)]) for _ in range(2)]
    assert torch.equal(passes[0].sort().values, split.targets.sort().values)
    assert not torch.equal(passes[0], passes[1])


@pytest.mark.parametrize("space", ["weight", "path"])
def test_divergence_is_an_outcome(tiny: Path, space: str) -> None:
    record = train(one_run(tiny, space=space, lr=1e30, max_norm=None))
    assert record["status"] == "diverged"
    assert "loss is" in record["reason"] or "must be" in record["reason"]
    assert math.isnan(record["test"])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("rule_name", sorted(SUITE.rules))
def test_path_space_at_its_defaults_stays_finite_at_every_rate(name: str, rule_name: str) -> None:
    rule = SUITE.rules[rule_name]
    run = SUITE.runs("embedded", "tuning", [name], {})[0]
    task = task_of(run)
    for rate in rule.rates:
        torch.manual_seed(0)
        model, _ = build(run, task)
        optimizer_class = registry.resolve(registry.OPTIMIZERS, rule.optimizer)
        optimizer = pathrnn.PathSpace(model.parameters(), model.graph, optimizer_class, lr=rate, **rule.options)
        stream = batches(task.train, run.task.batch, 0)
        for _ in range(40):
            batch = next(stream)
            optimizer.zero_grad()
            loss = task.loss(model(batch.inputs), batch.targets)
            loss.backward()
            optimizer.step()
        assert math.isfinite(loss.item())
        assert torch.isfinite(model.graph.weights()).all()
