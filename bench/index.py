"""Which runs the profiles of a suite ask for, and under which names, in a folder of results.

A file per task, so that processes that work on different tasks never write the same one; or one file of all, once the
results are compacted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.bounded import parsed
from bench.errors import InputError
from bench.files import hashed, write, writing
from bench.runs import LABEL_COLUMNS, Run, labels

_MOST = 100_000_000
"""Bytes that an index may have."""
Names = dict[str, dict[str, Any]]
"""What a profile calls runs, by their addresses."""


class Index:
    """The index of a folder of results.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole, self.parts = folder, folder / "index.json", folder / "index"

    def profiles(self) -> dict[str, Names]:
        """Return the runs that the profiles ask for.

        Returns:
            Names by profiles.

        Raises:
            InputError: it cannot be read.
        """
        parts = [self._read(path) for path in self._part_files()]  # first: somebody may compact meanwhile
        profiles = {profile: dict(names) for profile, names in self._read(self.whole).items()}
        for part in parts:
            for profile, names in part.items():
                own = {each["name"] for each in names.values()}
                kept = {key: each for key, each in profiles.get(profile, {}).items() if each["name"] not in own}
                profiles[profile] = kept | names
        return profiles

    def write(self, profile: str, others: Collection[str], runs: Sequence[Run]) -> None:
        """Write down which runs a profile asks for.

        Args:
            profile: name of the profile.
            others: names of tasks that keep what stands there.
            runs: the runs of all other tasks, and more runs of those.

        Raises:
            InputError: it cannot be read or written.
        """
        before = self.profiles().get(profile, {})
        tasks: dict[str, Names] = {name: {} for name in {each["name"] for each in before.values()} & set(others)}
        for key, names in before.items():
            if names["name"] in tasks:
                tasks[names["name"]][key] = names
        for run in runs:
            tasks.setdefault(run.name, {})[run.key] = labels(run)
        with writing(self.parts):
            for name in {run.name for run in runs}:
                write(self._part(profile, name), json.dumps({profile: tasks[name]}, indent=0).encode())
        self._drop(profile, {*others, *(run.name for run in runs)})

    def _drop(self, profile: str, tasks: Collection[str]) -> None:
        """Drop what a profile asks for of other tasks, of which a suite that was edited has left some."""
        for path in self._part_files():
            if any(each["name"] not in tasks for each in self._read(path).get(profile, {}).values()):
                path.unlink(missing_ok=True)
        whole = self._read(self.whole)
        names = whole.get(profile, {})
        if any(each["name"] not in tasks for each in names.values()):
            whole[profile] = {key: each for key, each in names.items() if each["name"] in tasks}
            self._write_whole(whole)

    def compact(self) -> None:
        """Write it into one file; what others write meanwhile stays in theirs.

        Raises:
            InputError: it cannot be read or written.
        """
        before = {path: path.read_bytes() for path in self._part_files()}
        if before:
            self._write_whole(self.profiles())
            for path, content in before.items():
                with suppress(FileNotFoundError):  # somebody else compacts
                    if path.read_bytes() == content:
                        path.unlink()
            with suppress(OSError):  # others have written there
                self.parts.rmdir()

    def _write_whole(self, profiles: dict[str, Names]) -> None:
        with writing(self.folder):
            write(self.whole, json.dumps(profiles, indent=0).encode())

    def _part(self, profile: str, name: str) -> Path:
        return self.parts / f"{hashed(json.dumps([profile, name]).encode())}.json"

    def _part_files(self) -> list[Path]:
        return sorted(self.parts.glob("[!.]*.json"))

    def _read(self, path: Path) -> dict[str, Names]:
        try:
            return _checked(parsed(path, _MOST))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{path}: the index cannot be read: {error}; delete it and run again") from None


def _checked(index: Any) -> dict[str, Names]:
    if any(set(names) != set(LABEL_COLUMNS) for profile in index.values() for names in profile.values()):
        raise ValueError("it must have the names of every run of every profile")
    return dict(index)
