"""Suites on a Dask cluster: a private one, and one of a scheduler; the same records as from processes of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import InputError
from bench.jobs import fits, versions
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


class Wire:
    """What lies between a main process and a scheduler; it can be cut, and mends at once."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self.target, self.pairs = (host, int(port)), list[socket.socket]()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                ours, _ = self.server.accept()
            except OSError:
                return
            theirs = socket.create_connection(self.target)
            self.pairs += [ours, theirs]
            for each in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self.pump, args=each, daemon=True).start()

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)

    def cut(self) -> None:
        for each in self.pairs:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.pairs = []


def test_a_connection_that_is_lost_costs_no_try(
    bench: Bench, tiny: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    tiny.write_text(
        LONGER.replace("digits_rows = 300", "digits_rows = 1000").replace("tuning_seeds = 1", "tuning_seeds = 3")
    )
    wire = Wire(cluster[0])
    process = run(tiny, tmp_path, "--scheduler", wire.address, "--stack", "1", "--retries", "0")
    until(lambda: contents(tmp_path / "tiny"))
    wire.cut()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(contents(tmp_path / "tiny")) == 16
    wire.server.close()


def test_a_worker_of_other_code_that_joins_late_is_sent_away(
    tiny: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, processes = cluster
    tiny.write_text(
        LONGER.replace("digits_rows = 300", "digits_rows = 1500").replace("tuning_seeds = 1", "tuning_seeds = 4")
    )
    shutil.copytree(ROOT / "bench", tmp_path / "other" / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "other" / "bench" / "train.py", "a", encoding="utf-8") as file:
        file.write("# a change\n")
    process = run(tiny, tmp_path, "--scheduler", address, "--stack", "1")
    until(lambda: contents(tmp_path / "tiny"))
    late = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "other")}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path / "other"}
    processes.append(subprocess.Popen(late, env=environment, start_new_session=True, **quiet))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert " is sent away: all machines of a cluster must have the same code and torch, " in errors
    assert len(contents(tmp_path / "tiny")) == 20


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
    assert errors.splitlines()[-1].startswith(f"Error: {address} has gone; what finished is kept"), errors
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
        fits(tmp_path / "tiny" / "working" / "there.json", versions())
    sign = tmp_path / "here.json"
    sign.touch()
    fits(sign, versions())
    with pytest.raises(InputError, match=r"must have the same code and torch, .* has code "):
        fits(sign, versions() | {"code": "another"})
