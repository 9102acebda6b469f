"""A pool of processes of which one may die at any moment: that costs its job, and nothing else."""

from __future__ import annotations

import faulthandler
import logging
import math
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from bench.errors import CheckFailedError, InputError, in_a_line

J = TypeVar("J")
_TAIL, _LINE = 40, 200
"""Lines of what a process printed last that are kept of one that died, and how much of each."""
_STARTS = 3
"""Processes in a row that may die before they have begun."""
_IDLE = 600
"""Seconds after which a process that has nothing to do leaves, as where it has been forgotten on a cluster."""
_SPAWN = multiprocessing.get_context("spawn")


class Outcome(NamedTuple, Generic[J]):
    """How a job ended.

    Attributes:
        job: the job.
        reason: why it failed; empty if it did not.
        died: whether its process died, by itself or because its time was up, so that it may succeed another time.
        tail: what the process printed last, if it died; else where the error came from.
        value: what the work returned.
    """

    job: J
    reason: str = ""
    died: bool = False
    tail: str = ""
    value: Any = None


class Executor(Protocol[J]):
    """What does jobs: processes of this machine, or a cluster.

    Attributes:
        count: jobs that it does at a time.
        stopped: set it, and no further job is begun.
    """

    count: int
    stopped: bool

    def submit(self, job: J) -> None:
        """Add a job."""

    @property
    def running(self) -> list[J]:
        """The jobs that are being done."""

    def wait(self, seconds: float) -> list[Outcome[J]]:
        """Let jobs be done until one ends, or for so many seconds; return how jobs ended."""

    def close(self) -> None:
        """End all, whatever is being done."""


class Pool(Generic[J]):
    """Processes that do jobs, each with a pipe of its own: there is no lock that one could die with.

    Where the process of the pool itself dies, those that work end their jobs and go.

    Args:
        work: does a job; importable.
        count: processes, which start when a job needs them.
        start: called in each before its first job; importable.
        arguments: arguments of ``start``.
        say: takes lines that processes log.
        timeout: seconds that a job may take; None for any time.
    """

    def __init__(
        self,
        work: Callable[[J], Any],
        count: int,
        start: Callable[..., None],
        arguments: Sequence[Any],
        say: Callable[[str], None],
        timeout: float | None = None,
    ) -> None:
        self.count, self.say, self.timeout, self.queue = count, say, timeout, deque[J]()
        self.target = work, start, tuple(arguments)
        self.processes: list[_Process[J]] = []
        self.stopped, self.fallen = False, 0

    def submit(self, job: J) -> None:
        """Add a job."""
        self.queue.append(job)

    @property
    def running(self) -> list[J]:
        """The jobs that are being done."""
        return [each.job for each in self.processes if each.job is not None]

    def wait(self, seconds: float) -> list[Outcome[J]]:
        """Let processes work until one ends a job, or for so many seconds.

        Returns:
            How jobs ended; none, or several.

        Raises:
            InputError: a job met with bad input.
            CheckFailedError: process after process dies before it has begun.
        """
        self._hand_out()
        ready = wait([end for each in self.processes for end in (each.pipe, each.process.sentinel)], seconds)
        heard = [each for each in self.processes if each.pipe in ready or each.process.sentinel in ready]
        outcomes = [each.outcome(self.say) for each in heard]
        self._mind_the_fallen([each for each in heard if each.pipe.closed and not each.ready])
        late = [each for each in self.processes if each.job is not None and time.monotonic() > each.deadline]
        outcomes += [each.kill(f"it took more than {self.timeout:g} seconds") for each in late]
        self.processes = [each for each in self.processes if not each.pipe.closed]
        self._hand_out()
        return [outcome for outcome in outcomes if outcome is not None]

    def _mind_the_fallen(self, fallen: Sequence[_Process[J]]) -> None:
        """Give up if processes die again and again before they have begun."""
        self.fallen = 0 if any(each.ready for each in self.processes) else self.fallen + len(fallen)
        if self.fallen > _STARTS:
            reason, tail = fallen[-1].end
            raise CheckFailedError(f"no worker can start: {reason}; {tail.splitlines()[-1] if tail else ''}")

    def _hand_out(self) -> None:
        """Give jobs to those who wait for one, and start processes for the others."""
        if self.stopped:
            return
        idle = [each for each in self.processes if each.ready and each.job is None and each.process.is_alive()]
        while idle and self.queue:
            idle.pop().give(self.queue.popleft(), self.timeout)
        starting = sum(not each.ready for each in self.processes)
        for _ in range(min(len(self.queue) - starting, self.count - len(self.processes))):
            self.processes.append(_Process(self.target))

    def kill(self) -> None:
        """Let all processes die, whatever they are doing, while another thread may wait for them."""
        self.stopped = True
        for each in self.processes:
            each.process.kill()

    def close(self) -> None:
        """End all processes; at once, whatever they are doing."""
        for each in self.processes:
            each.kill("")
        self.processes = []


class _Process(Generic[J]):
    """A process, the job that it does, and what it prints."""

    def __init__(self, target: tuple[Any, ...]) -> None:
        self.job: J | None = None
        self.ready, self.deadline, self.end = False, math.inf, ("", "")
        handle, path = tempfile.mkstemp(prefix="pathrnn-", suffix=".log")
        self.path, self.log, (self.pipe, other) = Path(path), os.fdopen(handle, "rb"), _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(other, path, *target), daemon=True)
        self.process.start()
        other.close()  # so that the pipe ends when the process does

    def give(self, job: J, timeout: float | None) -> None:
        self.job, self.deadline = job, time.monotonic() + (timeout or math.inf)
        with suppress(OSError):  # it may have died since its last job; its pipe says so to who waits
            self.pipe.send(job)

    def outcome(self, say: Callable[[str], None]) -> Outcome[J] | None:
        """Receive how the job ended; None, if the process had something else to say."""
        try:
            if not self.pipe.poll():  # a child of it may hold the other end
                raise EOFError
            kind, text, tail, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            outcome = self._gone(_cause(self.process.exitcode))
            return outcome if outcome.job is not None else None
        if kind == "input":
            raise InputError(text)
        if kind == "log":
            say(text)
        if kind == "ready":
            self.ready = True
            self.path.unlink(missing_ok=True)  # both have it open: nothing is left, whoever dies
        if kind in {"log", "ready"}:
            return None
        job: Any = self.job
        self.job = None
        return Outcome(job, text, tail=tail, value=value)

    def kill(self, reason: str) -> Outcome[J]:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        return self._gone(reason)

    def _gone(self, reason: str) -> Outcome[J]:
        job: Any = self.job
        self.job = None
        with self.log:
            lines = self.log.read().decode(errors="replace").splitlines()
        self.path.unlink(missing_ok=True)
        self.pipe.close()
        self.end = reason, "\n".join(line[:_LINE] for line in lines[-_TAIL:])
        return Outcome(job, reason, died=True, tail=self.end[1])


def _cause(code: int | None) -> str:
    """Say what an exit code means."""
    if code is None or code >= 0:
        return f"its process left with status {code}"
    known = {each.value: each.name for each in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    return f"its process was ended by {name}" + (", as where memory runs out" if name == "SIGKILL" else "")


def _serve(pipe: Connection, log: str, work: Callable[[Any], Any], start: Callable[..., None], given: Any) -> None:
    """Do jobs until the pipe ends."""
    for each in (signal.SIGINT, signal.SIGTERM):  # which are for the process of the pool
        signal.signal(each, signal.SIG_IGN)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(2)
    logging.basicConfig(format="%(message)s", handlers=[_ByPipe(pipe)])
    logging.captureWarnings(True)
    start(*given)
    try:
        pipe.send(("ready", "", "", None))
        while pipe.poll(_IDLE):
            pipe.send(_done(work, pipe.recv()))
    except (EOFError, OSError):  # the process of the pool has gone
        return


def _done(work: Callable[[Any], Any], job: Any) -> tuple[str, str, str, Any]:
    try:
        return "done", "", "", work(job)
    except InputError as error:
        return "input", str(error), "", None
    except Exception as error:
        return "failed", in_a_line(error), traceback.format_exc(), None


class _ByPipe(logging.Handler):
    """Hands lines to the process of the pool."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(logging.WARNING)
        self.pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the process of the pool has gone, which stops no job
            self.pipe.send(("log", self.format(record), "", None))
