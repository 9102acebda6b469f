"""Workers that turn runs into records, and a bar that shows how far they are."""

from __future__ import annotations

import platform
import signal
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench import registry
from bench.entries import TaskEntry
from bench.errors import CheckFailedError, InputError, MissingDataError
from bench.pool import Executor, Outcome, Pool
from bench.runs import RECORD_VERSION, Run
from bench.status import Signs
from bench.store import Store

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Execution(NamedTuple):
    """How to train runs.

    Attributes:
        workers: processes, one torch thread each; on a GPU there is one.
        device: where to train, ``"cpu"`` or ``"cuda"``.
        most: train at most so many runs together; as many as the device takes, if it is not given.
        retries: how often a run whose process died begins anew.
        timeout: seconds that a run, or a stack of runs, may take; None for any time.
        executor: ``"pool"``, processes of this machine, or ``"dask"``, the workers of a Dask cluster.
        scheduler: address of the scheduler of that; None for a cluster of our own, on this machine.
    """

    workers: int
    device: str = "cpu"
    most: int | None = None
    retries: int = 2
    timeout: float | None = None
    executor: str = "pool"
    scheduler: str | None = None


class Job(NamedTuple):
    """What a worker does at a time.

    Attributes:
        runs: what to train, together where ``stacked``.
        folder: the folder of their store.
        device: where to train.
        stacked: whether to train as a stack; else with the recurrent layers of torch.
    """

    runs: Sequence[Run]
    folder: Path
    device: str
    stacked: bool


class Check(NamedTuple):
    """What a worker looks at before anything is trained: whether the data of a task are there, and its arms fit.

    Attributes:
        suite: name of the suite.
        name: name of the task.
        entries: the task, and that which it is tuned on.
        outlines: a run of every arm.
    """

    suite: str
    name: str
    entries: Sequence[TaskEntry]
    outlines: Sequence[Run]


class Workers:
    """Worker processes, which start when the first run needs them and serve all phases of a suite.

    Ctrl-C, or SIGTERM, lets what has begun come to its end; once more, and it stops at once.

    Args:
        store: where the records go.
        how: by how many workers, and where.
        progress: where a bar is added.
    """

    def __init__(self, store: Store, how: Execution, progress: Progress) -> None:
        self.store, self.how, self.progress = store, how, progress
        self.bar, self.console = progress.add_task("", total=None), progress.console
        self.signs = Signs(store)
        self.tries: Counter[str] = Counter()
        self.done = set[str]()
        self.failed: dict[str, str] = {}
        self.stopping = False
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Workers:
        self.signs.give([])
        self.handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        return self

    @cached_property
    def pool(self) -> Executor[Any]:
        """Where jobs are done; made with the first of them."""
        how = self.how
        if how.device == "cuda" and how.scheduler is None:
            how = how._replace(workers=1)
        arguments = _work, how.workers, _start_worker, [registry.plugins()], self._say, how.timeout
        if how.executor == "pool":
            return Pool(*arguments)
        try:
            from bench.cluster import Cluster
        except ImportError as error:
            text = f"--executor dask needs the package distributed, which is not installed: {error}"
            raise InputError(f"{text}; pip install 'pathrnn[cluster]'") from None
        fits = partial(_fits, self.signs.own, RECORD_VERSION)
        return Cluster(*arguments, how.scheduler, how.device == "cuda", fits)

    @property
    def _running(self) -> list[Any]:
        return self.pool.running if "pool" in self.__dict__ else []

    def __exit__(self, *_: object) -> None:
        if "pool" in self.__dict__:
            self.pool.close()
        self.signs.end()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        if "pool" in self.__dict__:
            self.pool.stopped = True
        running = sum(len(job.runs) for job in self._running if isinstance(job, Job))
        self._say(f"stopping when what has begun has ended, {_runs(running)}; once more: at once")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def available(self, checks: Sequence[Check]) -> list[str]:
        """Look at tasks and arms, before anything is trained; leave out tasks whose data are not on this machine.

        Args:
            checks: a check per task.

        Returns:
            The names of the others, in the same order.

        Raises:
            InputError: an arm does not fit, data are wrong, or no task can run.
            CheckFailedError: a process died.
        """
        self._require_going_on()
        for check in checks:
            self.pool.submit(check)
        outcomes: dict[str, Outcome[Any]] = {}
        while len(outcomes) < len(checks):
            outcomes |= {outcome.job.name: outcome for outcome in self.pool.wait(1.0)}
            self._require_going_on()
        for name, outcome in outcomes.items():
            if outcome.reason:
                raise CheckFailedError(f"{name}: {outcome.reason}")
        missing = {check.name: outcomes[check.name].value for check in checks if outcomes[check.name].value}
        for name, text in missing.items():
            self.console.print(f"{name} skipped: {text}", style="yellow", highlight=False, soft_wrap=True)
        if len(missing) == len(checks):
            raise InputError("none of the tasks can run on this machine; see the lines above")
        return [check.name for check in checks if check.name not in missing]

    def _require_going_on(self) -> None:
        """Stop, if somebody wants to, once nothing is in progress."""
        if self.stopping and not self._running:
            raise KeyboardInterrupt

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        """List the runs that have no record; those that have one are read once, so that a broken one is missing."""
        unknown = [run for run in runs if run.key not in self.done]
        if unknown:
            self.done |= self.store.take(unknown, self._say)
        return [run for run in unknown if run.key not in self.done]

    def finish(self, runs: Sequence[Run], phase: str, total: int, stacked: bool = True) -> None:
        """Make the records of a phase that are missing; :attr:`failed` tells by address why others could not be made.

        Args:
            runs: the runs of the phase.
            phase: its name.
            total: how many runs all phases have.
            stacked: train those together that can be; else each alone, with the recurrent layers of torch.

        Raises:
            KeyboardInterrupt: somebody wants to stop, and what had begun has come to its end.
        """
        missing = self.missing(runs)
        self._require_going_on()
        self.progress.update(self.bar, description=phase, total=total, advance=len(runs) - len(missing))
        groups = self._groups(missing, stacked)
        for own in reversed(groups) if self.signs.others() else groups:  # to meet another process half way
            self.pool.submit(Job(own, self.store.folder.absolute(), self.how.device, stacked))
        finished = 0
        while finished < len(missing):
            self.signs.give([run for job in self._running for run in job.runs])
            ended = sum(map(self._settle, self.pool.wait(1.0)))
            self._require_going_on()
            self.progress.advance(self.bar, ended)
            before, finished, fifth = finished, finished + ended, max(1, len(missing) // 5)
            if not self.console.is_terminal and finished // fifth > before // fifth:
                self._say(f"{phase}: {finished} of {len(missing)} runs done")

    def _groups(self, runs: Sequence[Run], stacked: bool) -> Sequence[Sequence[Run]]:
        """Group runs by what a worker does at a time."""
        if not stacked or not runs:
            return [[run] for run in runs]
        from bench.groups import stacks

        share = -(-len(runs) // self.pool.count)  # no worker shall wait for a stack of another
        return stacks(runs, self.how.device, min(share, self.how.most or share))

    def _settle(self, outcome: Outcome[Job]) -> int:
        """Try again what may succeed, each run by itself, and note what failed; count the runs that are settled."""
        runs = outcome.job.runs
        if not outcome.reason:
            return len(runs)
        if self.stopping and outcome.died:  # unfinished, not failed
            return 0
        if len(runs) == 1:  # to take a stack apart is no try
            self.tries[runs[0].key] += 1
        left = [run for run in runs if not self.store.has(run)]
        again = [run for run in left if self._may_succeed(run, outcome)]
        for run in again:
            self.pool.submit(outcome.job._replace(runs=[run]))
        for run in left:
            if run not in again:
                self.store.failures.note(run, outcome.reason, self.tries[run.key], outcome.tail)
                self.failed[run.key] = outcome.reason
        self._say(f"{_runs(len(left))} of {runs[0].name}: {outcome.reason}" + ("; trying again" if again else ""))
        return len(runs) - len(again)

    def _may_succeed(self, run: Run, outcome: Outcome[Job]) -> bool:
        """Whether another time may be luckier: after a death, or without the others of its stack."""
        return len(outcome.job.runs) > 1 or (outcome.died and self.tries[run.key] <= self.how.retries)


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _fits(sign: Path, version: int) -> None:
    """See whether this machine can work for a main process that has left a sign of life."""
    here = platform.node()
    if not sign.exists():
        folder = sign.parent.parent
        raise InputError(f"all machines of a cluster must share the folder of results, {here} does not see {folder}")
    if version != RECORD_VERSION:
        text = f"all machines of a cluster must have the same version of this package, {here} writes records of version"
        raise InputError(f"{text} {RECORD_VERSION}, not {version}")


def _start_worker(plugins: list[str]) -> None:
    import torch

    registry.plug_in(plugins)
    torch.set_num_threads(1)


def _work(job: Job | Check) -> str:
    return _checked(job) if isinstance(job, Check) else _train(job)


def _checked(check: Check) -> str:
    """Return why the task cannot run on this machine, if it cannot."""
    from bench.train import build, task_of

    try:
        for entry in check.entries:
            task_of(entry)
        for run in check.outlines:
            build(run, task_of(run.task))
    except MissingDataError as error:
        return str(error)
    except InputError as error:
        raise InputError(f"suite {check.suite}, tasks.{check.name}: {error}") from None
    return ""


def _train(job: Job) -> str:
    from bench.groups import kind
    from bench.stack import train_stack
    from bench.train import train

    store = Store(job.folder)
    missing = [run for run in job.runs if not store.has(run)]  # others may work for the same folder
    together = job.stacked and missing and kind(missing[0]) is not None
    try:
        records = train_stack(missing, job.device) if together else [train(run, job.device) for run in missing]
    except InputError as error:  # a setting of this run, which is no reason to stop the others
        raise CheckFailedError(str(error)) from error
    for record in records:
        store.save(record)
    return ""


def progress_bar(console: Console) -> Progress:
    """Make a progress bar that counts runs; nothing is drawn where the console is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs, elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)
