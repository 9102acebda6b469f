"""What a report of 100,000 records costs: seconds and peak memory of the whole command, bytes of its page."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.seeds import seed
from tests.bench.planted import stored, study

ROOT = Path(__file__).parents[2]
TASKS, RULES, SPACES, SEEDS = 20, 5, 10, 96  # with 4 tuning runs per arm


def hundred_thousand() -> pd.DataFrame:
    """Ten evaluations a run, one run in a hundred diverged, losses on every other task."""
    tasks, rules = (
        [f"{kind}_{number}" for number in range(count)] for kind, count in (("task", TASKS), ("rule", RULES))
    )
    spaces = ["weight", "path", "gauge", *(f"space_{number}" for number in range(SPACES - 3))]
    draw = np.random.default_rng(seed("scale"))
    frame = study(
        lambda *_: 70 + 3 * draw.normal() if draw.random() > 0.01 else float("nan"), tasks, rules, spaces, SEEDS
    )
    frame["curve_update"] = [np.arange(1.0, 11.0)] * len(frame)
    frame["curve_seconds"] = frame["curve_update"]
    frame["curve_validation"] = list(60 + 10 * draw.random((len(frame), 10)))
    frame["curve_train_loss"] = list(draw.random((len(frame), 10)))
    return frame


def test_report_of_100_000_records(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frame = hundred_thousand()
    assert len(frame) == 100_000
    folder = stored(tmp_path, frame)
    command = [sys.executable, "-m", "bench", "report", str(folder)]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT), rounds=1)
    peak = benchmark.extra_info["GB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    size = benchmark.extra_info["MB"] = (folder / "report.html").stat().st_size / 1e6
    with capsys.disabled():
        print(f"\nreport of 100,000 records: {peak:.2f} GB at the peak, a page of {size:.2f} MB; seconds below", end="")
