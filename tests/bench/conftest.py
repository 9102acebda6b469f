"""A suite of seconds, and the real command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

collect_ignore = ["faulty.py", "nothing.py"]  # plug-ins, which register themselves where they are imported
ROOT = Path(__file__).parents[2]
TIMINGS = ["seconds", "curve_seconds", "stack"]
"""Columns of a record that are otherwise another time."""
TINY = """
title = "A suite of seconds"
max_norm = 1.0
growth = 0
spaces = ["weight", "path"]
[rules.momentum]
optimizer = "SGD"
options = { momentum = 0.9 }
rates = [0.01, 0.1]
[tasks.digits_rows]
task = "digits"
options = { steps = 8 }
hidden = 8
[tasks.mnist_rows]
task = "mnist_rows"
[profiles.embedded]
tuning_seeds = 1
test_seeds = 2
evaluations = 2
updates = { digits_rows = 6, mnist_rows = 1 }
"""

needs_data = pytest.mark.skipif("PATHRNN_DATA" not in os.environ, reason="PATHRNN_DATA is not set")
"""Marks what needs the data sets that the project does not contain."""

Bench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def bench() -> Bench:
    """Run ``python -m bench`` without any data folder, unless one is given, and without a network."""

    def run(*arguments: str | Path, data: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PATHRNN_DATA"}
        environment |= {"PATHRNN_OFFLINE": "1", "PATHRNN_CACHE": str(ROOT / "no-cache")} | variables
        if data is not None:
            environment["PATHRNN_DATA"] = str(data)
        command = [sys.executable, "-m", "bench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)

    return run


MEASURE = """
import os, resource, signal, sys
child = os.fork()
if not child:
    signal.alarm(60)
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
_, status, used = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=file)
"""
"""A small process, of which the child inherits no peak of memory; limits end what would else take the machine along."""


class Outcome(NamedTuple):
    status: int
    seconds: float
    megabytes: float
    out: str
    err: str


Refuse = Callable[..., Outcome]


def measured(folder: Path, *arguments: str | Path, **variables: str) -> Outcome:
    """Run Python, and measure the processor time and the peak memory of its processes."""
    environment = {key: value for key, value in os.environ.items() if key != "PATHRNN_DATA"}
    environment |= {"PATHRNN_OFFLINE": "1", "PATHRNN_CACHE": str(folder / "cache")} | variables
    command = [sys.executable, "-S", "-I", "-c", MEASURE, str(folder / "measured"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)
    status, seconds, megabytes = (folder / "measured").read_text().split()
    return Outcome(int(status), float(seconds), float(megabytes), result.stdout, result.stderr)


@pytest.fixture(scope="session")
def torch_alone(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What a run costs that asks for nothing: a parent, and a worker that imports torch."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "tiny.toml").write_text(TINY)
    run = ("-m", "bench", "run", folder / "tiny.toml", "--task", "mnist_rows", "--workers", "1", "--results", folder)
    return measured(folder, *run)


@pytest.fixture
def refuse(tmp_path: Path, record_property: Callable[[str, object], None]) -> Refuse:
    def check(*arguments: str | Path, torch: Outcome | None = None, **variables: str) -> Outcome:
        result = measured(tmp_path, *arguments, **variables)
        record_property("seconds", round(result.seconds, 2))
        record_property("megabytes", round(result.megabytes))
        assert result.status == 2, result
        assert result.err.startswith("Error: "), result
        assert result.err.endswith("\n"), result
        assert result.err[:-1].isprintable(), result  # one line, and no command to a terminal
        assert len(result.err) < 2_000, result
        assert result.seconds - (torch.seconds if torch else 0) < 2
        assert result.megabytes - (torch.megabytes if torch else 0) < 500
        return result

    return check
