"""What asv measures: that it finds and runs it, here, in a moment; ``nox -s asv`` does it in earnest."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.bench.conftest import ROOT


@pytest.fixture
def asv(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Check all benchmarks, and run two of them once."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    commands = ["machine --yes", "check -E existing"]
    commands += ["run --quick --dry-run --show-stderr -E existing -b time_plan_a_suite -b time_read_records"]
    line = " && ".join(f"asv {command}" for command in commands)
    return subprocess.run(line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_benchmarks_are_found_and_run(asv: subprocess.CompletedProcess[str]) -> None:
    assert asv.returncode == 0, asv.stdout + asv.stderr
    assert "No problems found." in asv.stdout
    assert "failed" not in asv.stdout
    for name in ("plan_a_suite", "read_records"):
        assert re.search(rf"harness\.time_{name} +\d[\d.]*±\d", asv.stdout)
