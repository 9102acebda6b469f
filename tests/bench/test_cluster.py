"""Suites on a Dask cluster: a private one, and one of a scheduler; the same records as from processes of our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import InputError
from bench.jobs import VERSIONS, fits
from tests.bench.conftest import ROOT, TINY, Bench
from tests.bench.test_faults import FAULTY, PLUGIN, contents, outcomes, run, workers_of

LONGER = TINY.replace(", mnist_rows = 1", "").replace("digits_rows = 6", "digits_rows = 300")


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, processes as on any machine, with its address."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", "127.0.0.1"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT, "start_new_session": True}
    quiet["env"] = {**os.environ, "FAULT": str(tmp_path / "mark")}
    processes = [subprocess.Popen([*dask, "--port", "0", "--scheduler-file", str(file)], **quiet)]  # type: ignore[call-overload]
    for _ in range(2):
        own = [*worker, "--scheduler-file", str(file), "--local-directory", str(tmp_path)]
        processes.append(subprocess.Popen(own, **quiet))  # type: ignore[call-overload]
    until(file.exists)
    address = next(part for part in file.read_text().split('"') if part.startswith("tcp://"))
    yield address, processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_worker_is_killed_and_records_are_those_of_the_pool(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(LONGER.replace("test_seeds = 2", "test_seeds = 12"))
    process = run(tiny, tmp_path / "dask", "--executor", "dask", "--workers", "2", "--stack", "2")
    folder = tmp_path / "dask" / "tiny"
    until(lambda: contents(folder) or process.poll() is not None)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert bench("run", tiny, "--results", tmp_path / "pool").returncode == 0
    pd.testing.assert_frame_equal(outcomes(folder), outcomes(tmp_path / "pool" / "tiny"))
    assert len(contents(folder)) == 28


def test_the_cluster_of_a_scheduler_survives_crashes_and_serves_again(
    bench: Bench, tiny: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, _ = cluster
    tiny.write_text(FAULTY)
    options = ("--scheduler", address, "--results", tmp_path / "results", *PLUGIN, "--retries", "1")
    result = bench("run", tiny, *options, "--device", "cuda")
    assert result.returncode == 2
    assert result.stderr.startswith(f"Error: {address} must have workers with a GPU, which offer it as they start: ")
    result = bench("run", tiny, *options)
    assert result.returncode == 0, result.stderr
    assert "its process was ended by SIGKILL, as where memory runs out; trying again" in result.stderr
    assert bench("run", tiny, "--results", tmp_path / "pool", *PLUGIN).returncode == 0
    pd.testing.assert_frame_equal(outcomes(tmp_path / "results" / "tiny"), outcomes(tmp_path / "pool" / "tiny"))


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGTERM]])
@pytest.mark.parametrize("private", [True, False])
def test_signals_stop_a_run_on_a_cluster(
    tiny: Path, tmp_path: Path, signals: list[signal.Signals], private: bool, request: pytest.FixtureRequest
) -> None:
    """Sent to the whole group, as by a terminal or by Slurm; processes of a private cluster are of that group."""
    where = ("--executor", "dask") if private else ("--scheduler", request.getfixturevalue("cluster")[0])
    tiny.write_text(
        LONGER.replace("digits_rows = 300", "digits_rows = 2000").replace("tuning_seeds = 1", "tuning_seeds = 5")
    )
    process = run(tiny, tmp_path, *where, "--workers", "2", "--stack", "1")
    records = tmp_path / "tiny" / "records"
    until(lambda: list(records.glob("*.json")))
    time.sleep(1.5)  # others have begun, and the main process knows of them
    before, start = len(list(records.glob("*.json"))), time.monotonic()
    for each in signals:
        os.killpg(process.pid, each)
        time.sleep(0.3)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopping when what has begun has ended, 2 runs; once more: at once" in errors
    assert errors.splitlines()[-1].startswith("Error: stopped; what finished in a results folder is kept")
    assert "Traceback" not in errors
    ended = len(list(records.glob("*.json"))) - before
    assert (1 <= ended <= 3) if len(signals) == 1 else ended == 0
    assert len(signals) == 1 or time.monotonic() - start < 5
    time.sleep(0.5)
    assert len(list(records.glob("*.json"))) - before == ended  # nothing goes on


def test_a_scheduler_that_goes_or_is_not_there_is_told(
    bench: Bench, tiny: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, processes = cluster
    tiny.write_text(LONGER.replace("digits_rows = 300", "digits_rows = 2000"))
    process = run(tiny, tmp_path, "--scheduler", address, "--stack", "1")
    until(lambda: contents(tmp_path / "tiny"))
    processes[0].kill()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 1, errors
    assert errors.splitlines()[-1].startswith(f"Error: {address} has gone; what finished is kept")
    again = bench("run", tiny, "--results", tmp_path, "--scheduler", address)
    assert again.returncode == 2
    must = f"Error: --scheduler must be the address of a running Dask scheduler, got {address}: "
    assert again.stderr.splitlines()[-1].startswith(must)
    assert "Traceback" not in errors + again.stderr


@pytest.mark.parametrize("seconds", [0.8, 1.6])
def test_a_signal_while_a_cluster_starts(tiny: Path, tmp_path: Path, seconds: float) -> None:
    tiny.write_text(LONGER)
    process = run(tiny, tmp_path, "--executor", "dask", "--workers", "2")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_an_address_of_another_form_is_refused(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    result = bench("run", tiny, "--results", tmp_path, "--scheduler", "tcp://127.0.0.1")
    assert result.returncode == 2
    must = "Error: --scheduler must be an address such as tcp://10.0.0.1:8786, got tcp://127.0.0.1\n"
    assert result.stderr == must


def test_a_machine_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must share the folder of results"):
        fits(tmp_path / "tiny" / "working" / "there.json", VERSIONS)
    sign = tmp_path / "here.json"
    sign.touch()
    fits(sign, VERSIONS)
    with pytest.raises(InputError, match="must have the same version of this package"):
        fits(sign, (VERSIONS[0], VERSIONS[1] - 1))
