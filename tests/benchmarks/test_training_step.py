"""The cost of path space, printed, never asserted: ``nox -s microbench`` on a quiet machine."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.workloads import interleaved, overhead, training_step


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.benchmark(group="training step, SGD, 1 x 128 units, 28 steps, batch 128, one thread")
@pytest.mark.parametrize("space", ["weight", "path"])
def test_training_step(benchmark: BenchmarkFixture, space: str) -> None:
    benchmark.pedantic(training_step(space), warmup_rounds=20, rounds=200)


@pytest.mark.benchmark(group="overhead")
@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("max_norm", [None, 1.0], ids=["plain", "clipped"])
def test_overhead_of_path_space(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], layers: int, max_norm: float | None
) -> None:
    functions = {space: training_step(space, layers=layers, max_norm=max_norm) for space in ("weight", "path")}
    seconds = benchmark.pedantic(interleaved, args=(functions, 1000 // layers), rounds=1)
    extra = overhead(seconds, of="path", over="weight")
    benchmark.extra_info["overhead"] = extra
    clipping = "neither clips" if max_norm is None else "both clip"
    with capsys.disabled():
        print(f"\nPathSpace(SGD) adds {100 * extra:.1f} % to torch's SGD, {clipping}, {layers} x 128 units")
