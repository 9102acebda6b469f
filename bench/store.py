"""Result records: one Parquet file per run, written atomically, named by the run's content address.

Which of them a profile of the suite asks for, and under which names, stands in an index beside them: a record may serve
several suites and profiles, and a suite that was edited leaves records behind that are no longer its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException, Table, array, concat_tables
from pyarrow.dataset import dataset
from pyarrow.parquet import ParquetFile

from bench.columns import contradictions, faults
from bench.environment import environment
from bench.errors import InputError
from bench.runs import LABEL_COLUMNS, RECORD_VERSION, Run, labels

FINDINGS = Path("theory/findings.parquet")
"""What ``python -m bench theory`` found, in a folder of results."""
TIMINGS = Path("throughput/timings.parquet")
"""What ``python -m bench throughput`` measured, in a folder of results."""
SCALING = Path("throughput/stacks.parquet")
"""What ``python -m bench stacks`` measured, in a folder of results."""
_ORDER = ["profile", "name", "rule_name", "space", "role", "lr", "index"]


class Store:
    """The records of one suite in one folder.

    Args:
        folder: created when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.index = folder / "index.json"
        self.left_out = 0  # records of other versions that the last load came upon

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

    def present(self, runs: Iterable[Run]) -> set[str]:
        """Tell which runs have a record, here or in a folder beside this one, by their addresses."""
        return {run.key for run in runs if self._path(run) is not None}

    def take(self, runs: Iterable[Run]) -> set[str]:
        """Copy records that folders beside this one have, and tell which runs have one here then.

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
                record = _read(path)
                if path.parent != self.records:
                    _write(self.records / path.name, record.to_pandas())
        return found

    def save(self, record: dict[str, Any]) -> None:
        """Write a record whole or not at all.

        Args:
            record: what :func:`bench.train.train` returns.
        """
        _write(self.records / f"{record['key']}.parquet", pd.DataFrame([record]))

    def of(self, runs: Sequence[Run]) -> pd.DataFrame:
        """Read the records of runs, here or in a folder beside this one, under the names of these runs.

        Args:
            runs: runs that are done.

        Returns:
            A row per run.

        Raises:
            InputError: a record cannot be read.
        """
        paths = [self._path(run) or self.records / f"{run.key}.parquet" for run in runs]
        frame = _frame([_read(path) for path in paths])
        return frame.assign(**pd.DataFrame([labels(run) for run in runs]))

    def write_index(self, profile: str, others: Iterable[str], runs: Iterable[Run]) -> None:
        """Write down which runs a profile asks for.

        Args:
            profile: name of the profile.
            others: names of tasks that keep what stands there.
            runs: the runs of all other tasks.
        """
        index = self._index()
        kept = {key: names for key, names in index.get(profile, {}).items() if names["name"] in set(others)}
        index[profile] = kept | {run.key: labels(run) for run in runs}
        partial = self.index.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(json.dumps(index, indent=0), encoding="utf-8")
        partial.replace(self.index)

    def load(self) -> pd.DataFrame:
        """Read all records of this version that the index names, or all, without one; in one fixed order.

        Returns:
            A row per run and profile.

        Raises:
            InputError: there are none, one cannot be read or lacks a column, or two of one run disagree.
        """
        with ThreadPoolExecutor() as readers:
            tables = list(readers.map(_read, sorted(self.records.glob("*.parquet"))))
        current = [_of_version(each) for each in tables]
        self.left_out = sum(map(len, tables)) - sum(map(len, current))
        if not any(map(len, current)):
            raise InputError(f"{self.folder} holds {self._what_else()}")
        records = _frame(current)
        self._require_none(faults(records))
        self._require_none(contradictions(records))
        records = records.drop_duplicates("key")
        if index := self._index():
            records = pd.concat([_named(records, names) for names in index.values()], ignore_index=True)
        if records.empty:
            raise InputError(f"{self.index} names none of the records; run the suite again")
        return records.sort_values(_ORDER, ignore_index=True)

    def _what_else(self) -> str:
        suites = sorted(path.parent.name for path in self.folder.glob("*/records"))
        if suites:
            return f"no records, but folders of suites: choose one of {', '.join(suites)}"
        what = f"{self.left_out} records of other versions alone" if self.left_out else "no records"
        return f"{what}; make some with python -m bench run SUITE"

    def _require_none(self, lines: Iterator[str]) -> None:
        if fault := next(lines, ""):
            raise InputError(f"{self.records}: {fault}; delete what does not belong there, and run the suite again")

    def omissions(self) -> list[str]:
        """Say what the last load passed over: a line, or none."""
        return [f"{self.left_out} records of other versions are left out"] if self.left_out else []

    def durations(self) -> Iterator[tuple[str, float, int]]:
        """Yield specification, seconds and updates of every record of this version; nothing where one is broken."""
        columns = ["version", "specification", "seconds", "updates"]
        try:
            rows = dataset([str(path) for path in self.records.glob("*.parquet")]).to_table(columns).to_pylist()
        except (OSError, ValueError):
            return
        yield from ((r["specification"], r["seconds"], r["updates"]) for r in rows if r["version"] == RECORD_VERSION)

    def _index(self) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            index = json.loads(self.index.read_text(encoding="utf-8"))
            if any(set(names) != set(LABEL_COLUMNS) for profile in index.values() for names in profile.values()):
                raise ValueError("it must have the names of every run of every profile")
            return dict(index)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{self.index}: the index cannot be read: {error}; delete it and run again") from None

    def _path(self, run: Run) -> Path | None:
        name = f"{run.key}.parquet"
        own = self.records / name
        return own if own.exists() else next(self.folder.parent.glob(f"*/records/{name}"), None)


def _write(path: Path, record: pd.DataFrame) -> None:
    partial = path.with_suffix(f".partial-{os.getpid()}")
    record.to_parquet(partial, index=False)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a folder of results, and write into it.

    Args:
        folder: the folder.

    Yields:
        Once, to write.

    Raises:
        InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"results folder {folder} must be writable: {error.strerror}") from None


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
        _write(path, table.assign(environment=json.dumps(environment(), sort_keys=True)))


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
    return _frame([_read(path)])


def _named(records: pd.DataFrame, names: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Keep the records that an entry of the index names, under the names that it gives them."""
    kept = records[records["key"].isin(names)].reset_index(drop=True)
    return kept.assign(**pd.DataFrame([names[key] for key in kept["key"]]))


def _frame(tables: Sequence[Table]) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = concat_tables(tables, promote_options="permissive").to_pandas()
    except ArrowException as error:
        raise InputError(f"records must have columns of the same types: {str(error).splitlines()[0]}") from None
    return frame


def _of_version(table: Table) -> Table:
    """Keep the rows of the current version."""
    if "version" not in table.column_names:
        return table.slice(0, 0)
    wanted = [version == RECORD_VERSION for version in table["version"].to_pylist()]
    return table if all(wanted) else table.filter(array(wanted))


def _read(path: Path) -> Table:
    try:
        with ParquetFile(path) as file:
            return file.read(use_threads=file.metadata.num_rows > 1_000)  # below, threads cost more than they save
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: the record cannot be read: {reason}; delete it and run again") from None
