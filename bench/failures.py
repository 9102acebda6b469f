"""Notes of runs that have no record because they failed, in a folder of results."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.bounded import parsed
from bench.files import write, writing
from bench.runs import Run, described, named

_MOST = 1_000_000
"""Bytes that a note may have."""


class Failures:
    """Why runs failed: a file each.

    Args:
        folder: created with the first note.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, run: Run, reason: str, tries: int, tail: str) -> None:
        """Note why a run failed.

        Args:
            run: the run.
            reason: what happened.
            tries: how often it was tried.
            tail: the last that its process printed.

        Raises:
            InputError: it cannot be written.
        """
        text = json.dumps({"reason": reason, "tries": tries, "tail": tail, **named(run)}, indent=1)
        with writing(self.folder):
            write(self._path(run.key), text.encode())

    def forget(self, key: str) -> None:
        """Forget about a run, which has succeeded."""
        self._path(key).unlink(missing_ok=True)

    def all(self) -> dict[str, dict[str, Any]]:
        """Return all notes, by the addresses of the runs."""
        notes = {}
        for path in sorted(self.folder.glob("[!.]*.json")):
            with suppress(OSError, ValueError, TypeError, KeyError):  # forgotten, or damaged: it is but a note
                notes[path.stem] = _checked(parsed(path, _MOST))
        return notes

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _checked(note: Any) -> dict[str, Any]:
    """See that a note says what is wanted of it."""
    described(note)
    return {**note, **{name: str(note[name]) for name in ("reason", "tries", "tail")}}
