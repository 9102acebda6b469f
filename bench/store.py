"""Result records: one Parquet file per run, written atomically, named by the run's content address."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow.dataset import dataset

from bench.errors import InputError
from bench.runs import RECORD_VERSION, Run, labels


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

    def find(self, run: Run) -> dict[str, Any] | None:
        """Find the record of a run, here or in a folder beside this one.

        A record that was made under other names (suite, arm, flags of the grid) is returned under those of the run:
        they are no part of its address.

        Args:
            run: the run.

        Returns:
            The record, or None.

        Raises:
            InputError: the record cannot be read.
        """
        path = self._path(run)
        return None if path is None else _record(path) | labels(run)

    def present(self, runs: Iterable[Run]) -> set[str]:
        """Tell which runs have a record, by their addresses, without reading it."""
        return {run.key for run in runs if self._path(run) is not None}

    def durations(self) -> Iterator[tuple[str, float, int]]:
        """Yield specification, seconds and updates of every record of this version; nothing where one is broken."""
        columns = ["version", "specification", "seconds", "updates"]
        try:
            rows = dataset([str(path) for path in self.records.glob("*.parquet")]).to_table(columns).to_pylist()
        except (OSError, ValueError):
            return
        yield from ((r["specification"], r["seconds"], r["updates"]) for r in rows if r["version"] == RECORD_VERSION)

    def done(self, runs: Iterable[Run]) -> set[str]:
        """Tell which runs have a record, and see to it that this folder has it, under the names of the run.

        Args:
            runs: the runs.

        Returns:
            The addresses of those that are done.

        Raises:
            InputError: a record cannot be read.
        """
        found = set()
        for run in runs:
            if (path := self._path(run)) is not None:
                found.add(run.key)
                record = _record(path)
                if path.parent != self.records or record["specification"] != run.model_dump_json():
                    self.save(record | labels(run))
        return found

    def _path(self, run: Run) -> Path | None:
        name = f"{run.key}.parquet"
        own = self.records / name
        return own if own.exists() else next(self.folder.parent.glob(f"*/records/{name}"), None)

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

    def of(self, runs: Iterable[Run]) -> pd.DataFrame:
        """Read the records of runs that are done."""
        return pd.concat([_read(self.records / f"{run.key}.parquet") for run in runs], ignore_index=True)

    def load(self) -> pd.DataFrame:
        """Read all records of this version, in one fixed order.

        Returns:
            A row per run.

        Raises:
            InputError: there are none, or one cannot be read.
        """
        frames = [_read(path) for path in sorted(self.records.glob("*.parquet"))]
        current = [frame for frame in frames if (frame["version"] == RECORD_VERSION).all()]
        if not current:
            what = f"{len(frames)} records of other versions alone" if frames else "no records"
            raise InputError(f"{self.folder} holds {what}; make some with python -m bench run SUITE")
        order = ["profile", "name", "rule_name", "space", "role", "lr", "index"]
        return pd.concat(current, ignore_index=True).drop_duplicates("key").sort_values(order, ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: the record cannot be read: {reason}; delete it and run the suite again") from None


def _record(path: Path) -> dict[str, Any]:
    return {str(name): value for name, value in _read(path).iloc[0].items()}
