"""A suite of seconds, and the real command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
