"""The cost of path space, printed, never asserted: ``nox -s microbench`` on a quiet machine."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench import suite as suites
from bench.workloads import (
    RULES,
    bare_training,
    harness_training,
    interleaved,
    optimizer_step,
    ratio,
    recurrence,
    training_step,
)
from tests.bench.conftest import ROOT, needs_data

BLOCK = 10  # the fixed gauge is restored every ten steps
SPACES = {"weight": None, "path": 1.0, "gauge": 1.0}
"""How each space clips: torch as it is, the others by their default."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.benchmark(group="training step, SGD, 1 x 128 units, 28 steps, batch 128, one thread")
@pytest.mark.parametrize("space", sorted(SPACES))
def test_training_step(benchmark: BenchmarkFixture, space: str) -> None:
    benchmark.pedantic(training_step(space, max_norm=SPACES[space]), warmup_rounds=20, rounds=200)


@pytest.mark.benchmark(group="ratio of a whole training step to that in weight space, one thread")
@pytest.mark.parametrize("rule", sorted(RULES))
def test_cost_of_a_training_step(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], rule: str) -> None:
    functions = {space: training_step(space, rule, max_norm) for space, max_norm in SPACES.items()}
    seconds = benchmark.pedantic(interleaved, args=(functions, 100, BLOCK), rounds=1)
    for space in ("path", "gauge"):
        extra = benchmark.extra_info[space] = ratio(seconds, space, over="weight") - 1
        with capsys.disabled():
            print(f"\n{rule:>8} in {space:>5} space: {100 * extra:+.1f} % of the training step in weight space", end="")


@pytest.mark.benchmark(group="ratio of an optimizer's step to that of torch, one thread")
@pytest.mark.parametrize(
    ("layers", "hidden", "reference"), [(1, 128, "Adam foreach"), (4, 128, "Adam foreach"), (1, 1024, "SGD foreach")]
)
def test_cost_of_an_optimizer_step(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], layers: int, hidden: int, reference: str
) -> None:
    functions = {name: optimizer_step(name, hidden, layers) for name in ("path", reference)}
    seconds = benchmark.pedantic(interleaved, args=(functions, 300, BLOCK), rounds=1)
    times = benchmark.extra_info["ratio"] = ratio(seconds, "path", over=reference)
    with capsys.disabled():
        print(f"\nPathSpace(SGD) steps in {times:.2f} of torch's {reference}, {layers} x {hidden}", end="")


@pytest.mark.benchmark(group="forward and back through a layer, nn.RNN over relu_scan, batch 128, one thread")
@pytest.mark.parametrize("units", [64, 128])
@pytest.mark.parametrize("steps", [28, 64, 784])
def test_speed_of_the_recurrence(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], steps: int, units: int
) -> None:
    functions = {name: recurrence(name, steps, units) for name in ("nn.RNN", "relu_scan")}
    seconds = benchmark.pedantic(interleaved, args=(functions, 20, max(1, 280 // steps)), rounds=1)
    speed = benchmark.extra_info["speed"] = ratio(seconds, "nn.RNN", over="relu_scan")
    with capsys.disabled():
        print(f"\nrelu_scan is {speed:.2f} times as fast as nn.RNN, {steps} steps of {units} units", end="")


@needs_data
@pytest.mark.benchmark(
    group="training through the harness over a bare loop, MNIST rows, 128 units, batch 128, one thread"
)
def test_cost_of_the_harness(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    suite = suites.load(ROOT / "suites" / "accuracy.toml")
    (run,) = [each for each in suite.outlines("mnist", "mnist_rows") if each.place[1:] == ("weight", "adam")]
    run = run.model_copy(update={"lr": 0.001, "max_norm": None})
    functions = {"bare": bare_training(run, 2 * BLOCK), "harness": harness_training(run, 2 * BLOCK)}
    seconds = benchmark.pedantic(interleaved, args=(functions, 100), rounds=1)
    speed = benchmark.extra_info["samples per second, harness over bare"] = ratio(seconds, "bare", over="harness")
    with capsys.disabled():
        print(f"\nsamples per second through the harness: {100 * speed:.1f} % of a bare loop of torch", end="")
