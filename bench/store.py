"""Result records: one Parquet file per run, written atomically, named by the run's content address."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import InputError


class Store:
    """The records of one suite in one folder.

    Args:
        folder: created when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"

    def prepare(self) -> None:
        """Create the folder.

        Raises:
            InputError: the folder cannot be written.
        """
        probe = self.records / f".probe-{os.getpid()}"
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"results folder {self.folder} must be writable: {error.strerror}; choose another with --results"
            ) from None

    def keys(self) -> set[str]:
        """List the addresses of the runs that are done."""
        return {path.stem for path in self.records.glob("*.parquet")}

    def save(self, record: dict[str, Any]) -> None:
        """Write a record whole or not at all.

        Args:
            record: what :func:`bench.train.train` returns.
        """
        path = self.records / f"{record['key']}.parquet"
        partial = path.with_suffix(f".partial-{os.getpid()}")
        pd.DataFrame([record]).to_parquet(partial, index=False)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)

    def load(self) -> pd.DataFrame:
        """Read all records, in one fixed order.

        Returns:
            A row per run.

        Raises:
            InputError: there are none, or one cannot be read.
        """
        frames = [_read(path) for path in sorted(self.records.glob("*.parquet"))]
        if not frames:
            raise InputError(f"{self.folder} holds no records; make some with python -m bench run SUITE")
        order = ["profile", "name", "rule_name", "space", "role", "lr", "index"]
        return pd.concat(frames, ignore_index=True).drop_duplicates("key").sort_values(order, ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: the record cannot be read: {reason}; delete it and run the suite again") from None
