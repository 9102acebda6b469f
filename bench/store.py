"""Result records: one file per run, or a table of many, found by the content address of the run.

Which of them a profile of the suite asks for, and under which names, stands in an index beside them: a record may serve
several suites and profiles, and a suite that was edited leaves records behind that are no longer its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from bench.columns import contradictions, faults
from bench.errors import InputError
from bench.files import BrokenFileError, sweep, writing
from bench.index import Index
from bench.record_tables import is_current, joined, keys_of, of_version, only, read_all, rows_of
from bench.records import Records
from bench.runs import Run, labels
from bench.table_files import read_table, write_compact

_SWEPT = ("records", "index", "failures", "working", "checkpoints")
_ORDER = ["profile", "name", "rule_name", "space", "role", "lr", "index"]


class Store(Records):
    """The records of one suite in one folder.

    Any number of processes may write to it, on any number of machines: a record is written aside and then renamed, all
    that could be written for a run says the same but for times, and nothing is locked.

    Args:
        folder: created when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.index = Index(folder)
        self.left_out = 0  # records of other versions that the last load came upon

    def prepare(self) -> None:
        """Create the folder, and delete what processes that died left in it.

        Raises:
            InputError: the folder cannot be written.
        """
        with writing(self.folder):
            self.records.mkdir(exist_ok=True)
            probe = self.records / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            for folder in (self.folder, *(self.folder / name for name in _SWEPT)):
                sweep(folder)

    def present(self, runs: Iterable[Run]) -> set[str]:
        """Tell which runs have a record, here or in a folder beside this one, by their addresses."""
        return {run.key for run in runs} & set(self._files())

    def take(self, runs: Sequence[Run], say: Callable[[str], None]) -> set[str]:
        """Copy records that folders beside this one have, and tell which runs have one here then.

        Args:
            runs: the runs.
            say: takes a line for each record that cannot be read, which then counts as missing.

        Returns:
            The addresses of those that are done.

        Raises:
            InputError: the machine cannot read or write.
        """
        files, found = self._files(say), set[str]()
        by_file: dict[Path, list[str]] = {}
        for key in dict.fromkeys(run.key for run in runs if run.key in files):
            by_file.setdefault(files[key], []).append(key)
        for path, keys in by_file.items():
            try:
                if path.suffix == ".json" and not is_current(path):  # of which the name told nothing but the key
                    continue
                for record in rows_of(path, keys) if path.parent != self.records else ():
                    self.save(record)
                found.update(keys)
            except BrokenFileError as error:
                self._set_aside(path, error, say)
            except InputError:
                if path.exists():
                    raise
                return self.take(runs, say)  # another process has compacted the folder
        return found

    def _set_aside(self, path: Path, error: BrokenFileError, say: Callable[[str], None]) -> None:
        """Say that a file is broken; rename it, if it is ours."""
        say(str(error).replace("run the suite again, which sets it aside", "its runs are done again"))
        if path.parent == self.records:
            with suppress(FileNotFoundError):  # another process was faster
                path.replace(path.with_name(f"{path.name}.broken"))

    def compact(self) -> int:
        """Write all records into one file, and delete the others; files that hold another version stay.

        Returns:
            How many records there are.

        Raises:
            InputError: there are none, one cannot be read, two of one run disagree, or the folder cannot be written.
        """
        files = [path for path in self._record_files() if is_current(path)]
        records = self._frame_of(files).sort_values("key", ignore_index=True)
        with writing(self.records):
            whole = write_compact(self.records, records)
            self._require_none(faults(joined([read_table(whole)])))
            for path in set(files) - {whole}:
                path.unlink(missing_ok=True)
        self.index.compact()
        return len(records)

    def of(self, runs: Sequence[Run]) -> pd.DataFrame:
        """Read the records of runs, here or in a folder beside this one, under the names of these runs.

        Args:
            runs: runs that are done.

        Returns:
            A row per run.

        Raises:
            InputError: a record is missing, or cannot be read.
        """
        files, keys = self._files(), [run.key for run in runs]
        self._require_there(keys, files)
        if not runs:
            return pd.DataFrame(columns=["role", "name", "space", "rule_name"])
        tables = read_all(list(dict.fromkeys(files[key] for key in keys)))
        frame = joined([only(of_version(table), keys) for table in tables]).drop_duplicates("key")
        self._require_there(keys, set(frame["key"]))
        frame = frame.set_index("key", drop=False).loc[keys].reset_index(drop=True)
        return frame.assign(**pd.DataFrame([labels(run) for run in runs]))

    def _require_there(self, keys: Sequence[str], there: Container[str]) -> None:
        if missing := next((key for key in keys if key not in there), ""):
            raise InputError(f"{self.records}: there is no record of run {missing}; run the suite again")

    def keys(self) -> set[str]:
        """Return the addresses of all runs that have a record here."""
        return {key for key, path in self._files().items() if path.parent == self.records}

    def load(self) -> pd.DataFrame:
        """Read all records of this version that the index names, or all, without one; in one fixed order.

        Returns:
            A row per run and profile.

        Raises:
            InputError: there are none, one cannot be read or lacks a column, or two of one run disagree.
        """
        records = self._frame_of(self._record_files())
        if index := self.index.profiles():
            records = pd.concat([_named(records, names) for names in index.values()], ignore_index=True)
        if records.empty:
            raise InputError(f"{self.folder}: the index names none of the records; run the suite again")
        return records.sort_values(_ORDER, ignore_index=True)

    def _frame_of(self, files: Sequence[Path]) -> pd.DataFrame:
        """Read records of this version, a row per run."""
        tables = read_all(files)
        current = [of_version(each) for each in tables]
        self.left_out = sum(map(len, tables)) - sum(map(len, current))
        if not any(map(len, current)):
            raise InputError(f"{self.folder} holds {self._what_else()}")
        records = joined(current)
        self._require_none(faults(records))
        self._require_none(contradictions(records))
        return records.drop_duplicates("key")

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
        columns = ["specification", "seconds", "updates"]
        try:
            tables = [of_version(table).select(columns) for table in read_all(self._record_files())]
        except (InputError, KeyError):
            return
        yield from (tuple(row.values()) for table in tables for row in table.to_pylist())

    def _record_files(self, folder: Path | None = None) -> list[Path]:
        folder = folder or self.records
        names = sorted(os.listdir(folder)) if folder.exists() else []  # faster than glob, where there are many
        return [folder / name for name in names if name[0] != "." and name.endswith((".json", ".parquet"))]

    def _files(self, say: Callable[[str], None] | None = None) -> dict[str, Path]:
        """Tell which file has the record of a run, by its address: here, or in a folder beside this one."""
        beside = sorted(set(self.folder.parent.glob("*/records")) - {self.records})
        found: dict[str, Path] = {}
        for folder in [*beside, self.records]:
            for path in self._record_files(folder):
                try:
                    found |= dict.fromkeys([path.stem] if path.suffix == ".json" else keys_of(path), path)
                except BrokenFileError as error:
                    self._set_aside(path, error, say) if say else None
                except InputError:
                    if path.exists():
                        raise
                    return self._files(say)  # another process has compacted the folder
        return found


def _named(records: pd.DataFrame, names: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Keep the records that an entry of the index names, under the names that it gives them."""
    kept = records[records["key"].isin(names)].reset_index(drop=True)
    return kept.assign(**pd.DataFrame([names[key] for key in kept["key"]]))
