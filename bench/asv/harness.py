"""Time of what surrounds training: imports, suites, records, reports."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import bench
from bench import suite as suites
from bench.claims import Claims
from bench.report import write
from bench.schema import read
from bench.store import Store

_ROOT = Path(bench.__file__).parents[1]
_SUITE = _ROOT / "suites" / "accuracy.toml"
_RESULTS = _ROOT / "results" / "reference" / "accuracy"


def timeraw_import_pathrnn() -> str:
    """Import the package, with torch."""
    return "import pathrnn"


def timeraw_import_command_line() -> str:
    """Import the command line, which does without torch."""
    return "import bench.cli"


def time_plan_a_suite() -> None:
    """Read a suite, and list all tuning runs with their addresses."""
    suite = suites.load(_SUITE)
    for run in suite.tuning_runs("embedded", list(suite.profiles["embedded"].updates)):
        assert run.key


def time_read_records() -> None:
    """Read the reference records of a suite."""
    Store(_RESULTS).load()


class Report:
    """A report of the reference records of a suite."""

    timeout = 300

    def setup(self) -> None:
        """Copy the records to where a report may be written."""
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(_RESULTS, self.folder / "accuracy")
        self.claims = read(_ROOT / "suites" / "claims.toml", Claims)

    def teardown(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder)

    def time_report(self) -> None:
        """Write it."""
        write(Store(self.folder / "accuracy"), None, self.claims)
