"""Records of single runs in a folder of results: all that a worker process needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.failures import Failures
from bench.files import read_record, write_record, writing
from bench.migration import is_of_now, migrated
from bench.runs import Run


class Records:
    """A file per run, found by its address.

    Args:
        folder: the folder of results, created when the first record is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.records, self.failures = folder, folder / "records", Failures(folder / "failures")

    def has(self, run: Run) -> bool:
        """Tell whether a run has a file of its own here, a sound one of this version."""
        try:
            return is_record_of_now(self._own(run.key))
        except InputError:
            return False

    def save(self, record: dict[str, Any]) -> None:
        """Write a record whole or not at all; what is known of an earlier failure of its run is forgotten.

        Args:
            record: what :func:`bench.train.train` returns.

        Raises:
            InputError: it cannot be written.
        """
        with writing(self.records):
            write_record(self._own(record["key"]), record)
            self.failures.forget(record["key"])

    def _own(self, key: str) -> Path:
        return self.records / f"{key}.json"


def is_record_of_now(path: Path) -> bool:
    """Tell whether a file holds a record of this version and method, or an older one that can be brought to it."""
    record = migrated(read_record(path))
    return is_of_now(record.get("version"), record.get("method"))
