"""What commands other than ``run`` measured: a table each, in a folder of results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.environment import environment
from bench.errors import InputError
from bench.files import write, writing
from bench.table_files import read_table

FINDINGS = Path("theory/findings.parquet")
"""What ``python -m bench theory`` found, in a folder of results."""
TIMINGS = Path("throughput/timings.parquet")
"""What ``python -m bench throughput`` measured, in a folder of results."""
SCALING = Path("throughput/stacks.parquet")
"""What ``python -m bench stacks`` measured, in a folder of results."""


def write_findings(path: Path, findings: Iterable[Any]) -> None:
    """Write what a command other than ``run`` measured, whole or not at all, with the environment.

    Args:
        path: the file; its folder is made.
        findings: instances of one dataclass, a row each.

    Raises:
        InputError: it cannot be written.
    """
    table = pd.DataFrame([dataclasses.asdict(each) for each in findings])
    with writing(path.parent):
        write(path, table.assign(environment=json.dumps(environment(), sort_keys=True)).to_parquet(index=False))


def read_findings(path: Path, command: str) -> pd.DataFrame:
    """Read what a command other than ``run`` measured.

    Args:
        path: the file.
        command: what makes it, for the message.

    Returns:
        A row per finding.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    if not path.exists():
        raise InputError(f"not measured: run {command}")
    frame: pd.DataFrame = read_table(path).to_pandas()
    return frame
