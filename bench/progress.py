"""How far a suite is: a bar on a terminal, lines elsewhere, events for machines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bench.runs import Run, described, named

_PACE = 3_600
"""Seconds of which the pace tells how long the rest takes: stacks end many runs at once."""


class Display:
    """Shows how far a suite is; a context.

    Args:
        console: a terminal gets a bar, with what goes on below it; anything else gets lines.
        log: where every event goes as a line of JSON, or None.
    """

    def __init__(self, console: Console, log: TextIO | None = None) -> None:
        self.console, self.log = console, log
        self.bar = _Bar(console)
        self.task = self.bar.add_task("", total=None)
        self.phase, self.wanted, self.finished, self.failed = "", 0, 0, 0
        self.last = ""

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.stop()
        done = int(self._state.completed) - self.failed
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._event("end", stopped=stopped, done=done, failed=self.failed)

    @property
    def _state(self) -> Any:
        return self.bar.tasks[0]

    def begin(self, phase: str, runs: int, missing: int, total: int) -> None:
        """Begin a phase.

        Args:
            phase: its name.
            runs: how many it has.
            missing: how many of them have no record.
            total: how many all phases have.
        """
        self.phase, self.wanted, self.finished = phase, missing, 0
        self.bar.update(self.task, description=phase, total=total, completed=self._state.completed + runs - missing)
        self._event("phase", phase=phase, runs=runs, missing=missing, total=total)
        self.show(0)

    def show(self, running: int) -> None:
        """Show how many runs are in progress, failed, and the last that ended."""
        failed = f", {self.failed} failed" if self.failed else ""
        self.bar.line = f"{running} running{failed}" + (f"; {self.last}" if self.last else "")

    def ended(self, runs: int, results: Iterable[Mapping[str, Any]], failed: int = 0) -> None:
        """Note runs that are settled.

        Args:
            runs: how many.
            results: what came out, as :func:`result` says it.
            failed: how many of the runs failed.
        """
        self.failed += failed
        self.bar.advance(self.task, runs)
        for each in results:
            value = each["reason"] if each["value"] is None else f"{each['metric']} {each['value']:.4g}"
            self.last = f"{described(each)}: {value}"
            self._event("done", phase=self.phase, **each)
        before, self.finished = self.finished, self.finished + runs
        fifths = [5 * count // max(1, self.wanted) for count in (before, self.finished)]
        if not self.console.is_terminal and fifths[1] > fifths[0]:
            self.say(f"{self.phase}: {self.finished} of {self.wanted} runs done{self._outlook()}", event=False)

    def _outlook(self) -> str:
        """Say how many failed, how long the rest of all phases takes, and what came out last."""
        left = self._state.time_remaining
        texts = [f"{self.failed} failed"] * bool(self.failed) + ([_duration(left)] if left else [])
        return "".join(f", {text}" for text in texts) + (f"; {self.last}" if self.last else "")

    def trouble(self, event: str, runs: Sequence[Run], reason: str, **more: Any) -> None:
        """Note runs that ``failed``, or are tried ``again``."""
        for run in runs:
            self._event(event, reason=reason, **named(run), **more)

    def say(self, line: str, style: str = "", event: bool = True) -> None:
        """Print a line, above the bar."""
        self.console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
        if event:
            self._event("line", text=line)

    def _event(self, event: str, **told: Any) -> None:
        if self.log is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            self.log.write(json.dumps({"time": now, "event": event, **told}) + "\n")
            self.log.flush()
        except OSError as error:  # the disk is full, or nobody reads any more: no reason to stop
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.log.fileno())  # for what is left to write, when it is closed
            self.log = None
            self.say(f"the log of --log-json ends here: {error.strerror}")


def result(record: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Say what came out of a run: its names, status, metric, value (None if it diverged) and seconds."""
    value = record["test"] if run.role == "test" else record["validation"]
    told = {name: record[name] for name in ("status", "reason", "metric", "seconds")}
    return {**named(run), **told, "value": value if math.isfinite(value) else None}


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit} left"
    return f"about {seconds:.0f} s left"


class _Bar(Progress):
    """A bar that counts runs, and a line below it."""

    line = ""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs, elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        quiet = not console.is_terminal
        super().__init__(*columns, console=console, disable=quiet, speed_estimate_period=_PACE)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, and the line."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self.line, style="dim", overflow="ellipsis", no_wrap=True)
