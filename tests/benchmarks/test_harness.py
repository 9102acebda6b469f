"""What the machinery around training costs, printed, never asserted: ``nox -s microbench`` on a quiet machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import suite as suites
from bench.runs import RECORD_VERSION, columns, labels
from bench.store import Store
from bench.table_files import write_compact
from tests.bench.conftest import ROOT

SUITE = """
title = "What the harness costs"
max_norm = 1.0
growth = 0
spaces = {spaces}
[rules.rule]
optimizer = "{optimizer}"
rates = {rates}
[tasks.task]
task = "{task}"
hidden = {hidden}
[profiles.embedded]
tuning_seeds = {tuning_seeds}
test_seeds = {test_seeds}
evaluations = {evaluations}
updates = {{ task = {updates} }}
"""
NOTHING = {"spaces": ["weight"], "optimizer": "SGD", "rates": [0.01], "task": "nothing", "hidden": 1}
NOTHING |= {"tuning_seeds": 1, "test_seeds": 199, "evaluations": 1, "updates": 1}
MANY = {"spaces": ["weight", "path"], "optimizer": "SGD", "rates": [0.01, 0.02, 0.03, 0.04, 0.05], "task": "digits"}
MANY |= {"hidden": 8, "tuning_seeds": 9999, "test_seeds": 5, "evaluations": 10, "updates": 10}
LONG = {"spaces": ["path"], "optimizer": "Adam", "rates": [0.001, 0.002], "task": "digits", "hidden": 64}
LONG |= {"tuning_seeds": 4, "test_seeds": 1, "evaluations": 20, "updates": 3500}
"""Runs that train nothing; a hundred thousand; eight of five seconds."""

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def print_(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    return print_


def timed(*command: str | Path) -> tuple[float, float]:
    """Run ``python`` with arguments; return seconds, and megabytes at the peak."""
    # By a small process in between, as the peak of a process counts what the one had that has started it.
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    start = time.perf_counter()
    between = [sys.executable, "-c", code, sys.executable, *map(str, command)]
    result = subprocess.run(between, cwd=ROOT, capture_output=True, check=True, text=True)
    return time.perf_counter() - start, int(result.stdout) / 1e3


def suite(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "suite.toml"
    path.write_text(SUITE.format(**settings))
    return path


def test_200_runs_that_train_nothing(benchmark: BenchmarkFixture, tmp_path: Path, say: Say) -> None:
    path, results = suite(tmp_path, NOTHING), tmp_path / "results"
    command = ("-m", "bench", "run", path, "--results", results, "--plugin", "tests.bench.nothing")
    firsts, cached, imports = [], [], []
    for _ in range(3):
        shutil.rmtree(results, ignore_errors=True)
        imports.append(timed("-c", "import torch, os; os._exit(0)")[0])
        firsts.append(timed(*command)[0])
        cached.append(timed(*command)[0])
    benchmark.pedantic(timed, args=command, rounds=1)
    torch = sorted(imports)[1]
    say(f"200 runs that train nothing: {sorted(firsts)[1]:.2f} s, an import of torch of {torch:.2f} s among them;")
    say(f"when all are there: {sorted(cached)[1]:.2f} s, without it")


def prepared(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A suite of 100,000 runs and the records of all tuning runs, but for the outcome those of real ones."""
    path = suite(folder, MANY)
    runs = suites.load(path).tuning_runs("embedded", ["task"])
    results = [float(place) for place in range(10)]
    curves = {f"curve_{name}": results for name in ("update", "train_loss", "validation", "seconds")}
    rest = {
        "version": RECORD_VERSION,
        "status": "finished",
        "reason": "",
        "metric": "accuracy [%]",
        "higher_is_better": True,
    }
    rest |= {"target": 90.0, "test": float("nan"), "opening": [1.0, 1.0, 1.0], "stack": 1, "seconds": 1.0}
    rest |= {"environment": json.dumps({"cpu": "abacus", "commit": "c0ffee" * 6, "torch": "2.13.0+cpu"}), **curves}
    return path, [
        {"key": run.key, **labels(run), **columns(run), "specification": run.specification, **rest, "validation": 1.0}
        for run in runs
    ]


def test_planning_and_resuming_100_000_runs(
    benchmark: BenchmarkFixture, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, records = prepared(tmp_path)
    assert len(records) == 99_990
    results = tmp_path / "results"
    planned = benchmark.pedantic(timed, args=("-m", "bench", "plan", path, "--results", results), rounds=1)
    say(f"planning 100,000 runs: {planned[0]:.1f} s, {planned[1]:.0f} MB at the peak")
    store = Store(results / "suite")
    store.prepare()
    whole = write_compact(store.records, pd.DataFrame(records))
    code = "import sys; from pathlib import Path; from bench import suite; from bench.store import Store; "
    code += f"runs = suite.load(Path({str(path)!r})).tuning_runs('embedded', ['task']); "
    code += f"done = Store(Path({str(store.folder)!r})).take(runs, print); sys.exit(len(done) != 99_990)"
    seconds, peak = timed("-c", code)
    say(f"resuming 100,000 runs of which all are compacted: knows what to do after {seconds:.1f} s, {peak:.0f} MB")
    whole.unlink()
    monkeypatch.setattr(os, "fsync", lambda _: None)  # which takes longer than all else here, and is not measured
    for record in records:
        store.save(record)
    seconds, peak = timed("-c", code)
    say(f"the same of 100,000 files: after {seconds:.1f} s, {peak:.0f} MB")


def events(folder: Path, path: Path, workers: int) -> list[dict[str, Any]]:
    log = folder / f"log-{workers}"
    options = ("--workers", str(workers), "--stack", "1", "--log-json", log, "--results", folder / f"results-{workers}")
    timed("-m", "bench", "run", path, *options)
    return [json.loads(line) for line in log.read_text().splitlines()]


def at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def test_the_share_of_the_harness_and_a_second_worker(benchmark: BenchmarkFixture, tmp_path: Path, say: Say) -> None:
    path = suite(tmp_path, LONG)
    one = benchmark.pedantic(events, args=(tmp_path, path, 1), rounds=1)
    done = [each for each in one if each["event"] == "done" and each["role"] == "tuning"]
    trained = sum(each["seconds"] for each in done[1:])
    beside = (at(done[-1]) - at(done[0])) / trained - 1
    mean = trained / len(done[1:])
    say(f"{len(done)} runs of {mean:.1f} s by one worker: {100 * beside:.2f} % of the training time between runs")
    two = [each for each in events(tmp_path, path, 2) if each["event"] == "done" and each["role"] == "tuning"]
    say(f"two workers: {pace(two, 2) / pace(done, 1):.2f} times the pace of one")


def pace(done: list[dict[str, Any]], workers: int) -> float:
    """Runs per second from when all workers have ended their first, which begins with imports, to the last."""
    times = sorted(map(at, done))
    return (len(times) - workers) / (times[-1] - times[workers - 1])
