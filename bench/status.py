"""How far the results in a folder are, and who works on them."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench.bounded import parsed
from bench.errors import InputError
from bench.files import write, writing
from bench.runs import Run, described, named
from bench.store import Store
from bench.tables import console, plain_table

_FRESH = 30
"""Seconds that a sign of life is good for; it is renewed every other second."""
_FORGOTTEN = 86_400
"""Seconds after which one is deleted: not sooner, as clocks of machines differ, and others look whether it is there."""
_EVERY = 2
_MOST = 10_000_000
"""Bytes that a sign of life may have."""


class Signs:
    """Signs of life of this process in a folder of results: what it is doing, for whoever asks.

    Args:
        store: the records.
    """

    def __init__(self, store: Store) -> None:
        self.folder, self.last = store.folder.absolute() / "working", 0.0
        self.own = self.folder / f"{platform.node()}-{os.getpid()}.json"

    def give(self, running: Sequence[Run]) -> None:
        """Say what runs are in progress, every other second at most."""
        if time.monotonic() - self.last > _EVERY:
            with suppress(InputError), writing(self.folder):  # a sign that cannot be given stops nothing
                write(self.own, json.dumps([named(run) for run in running]).encode())
            self.last = time.monotonic()

    def others(self) -> bool:
        """Tell whether another process works for the same folder."""
        return bool(fresh(self.folder) - {self.own})

    def end(self) -> None:
        """Leave no sign."""
        self.own.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or others work
            self.folder.rmdir()


def fresh(folder: Path) -> set[Path]:
    """List signs of processes that are alive; delete those that are old."""
    alive = set()
    for path in folder.glob("[!.]*.json"):
        with suppress(FileNotFoundError):  # a process ends
            age = time.time() - path.stat().st_mtime
            if age < _FRESH:
                alive.add(path)
            if age > _FORGOTTEN:
                path.unlink()
    return alive


class Status(NamedTuple):
    """How far a profile is.

    Attributes:
        profile: its name.
        done: runs with a record.
        missing: runs that are asked for, and have neither record nor failure.
        failed: notes of failures.
        running: runs in progress, by their names, rates and seeds.
    """

    profile: str
    done: int
    missing: int
    failed: list[dict[str, Any]]
    running: list[dict[str, Any]]


def status(store: Store) -> list[Status]:
    """Find out how far the profiles are that the index of a folder names.

    Args:
        store: the records.

    Returns:
        One per profile. Tests are asked for once their rates are known.
    """
    have, failures = store.keys(), store.failures.all()
    working: list[dict[str, Any]] = []
    for path in fresh(store.folder / "working"):
        with suppress(OSError, ValueError, TypeError, KeyError):  # it ends, or is damaged
            working += [run for run in parsed(path, _MOST) if described(run)]
    result = []
    for profile, names in store.index.profiles().items():
        done = names.keys() & have
        failed = [note for key, note in failures.items() if key in names.keys() - done]
        running = [run for run in working if run["profile"] == profile and run["key"] not in have]
        result.append(Status(profile, len(done), len(names) - len(done) - len(failed), failed, running))
    return result


def show(store: Store) -> None:
    """Print how far the results in a folder are: counts per profile, then what runs, then what failed and why.

    Args:
        store: the records.

    Raises:
        InputError: nothing was begun there.
    """
    profiles = status(store)
    if not profiles:
        raise InputError(f"{store.folder} holds no results; make some with python -m bench run SUITE")
    table = plain_table(
        "profile", "done", "running", "failed", "missing", right=["done", "running", "failed", "missing"]
    )
    for own in profiles:
        table.add_row(own.profile, *map(str, (own.done, len(own.running), len(own.failed), own.missing)))
    out = console()
    out.print(table)
    for own in profiles:
        for run in own.running:
            out.print(f"running: {described(run)}", markup=False)
        for note in own.failed:
            reason = note["reason"].removeprefix(f"{described(note)}: ")
            out.print(f"failed: {described(note)}: {reason}, tried {note['tries']} times", markup=False)
            out.print("\n".join(f"    {line}" for line in note["tail"].splitlines()), markup=False)
