"""Runs to records: skip what is done, send the rest to a pool of processes, show how far it is."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path

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
from bench.errors import CheckFailedError, InputError, MissingDataError
from bench.runs import Run
from bench.store import Store
from bench.suite import Suite
from bench.tuning import choose, grow

_stop: Event  # in a worker: set when no further run should begin


def execute(suite: Suite, profile: str, tasks: Sequence[str], store: Store, workers: int, console: Console) -> None:
    """Run what is missing of a suite: tuning runs, more where a best rate is at an edge, test runs at the best rates.

    Args:
        suite: the suite.
        profile: name of one of its profiles.
        tasks: names of the tasks to run.
        store: where the records go.
        workers: processes, one torch thread each.
        console: where the progress goes.

    Raises:
        InputError: data are wrong, or the results folder cannot be written.
        CheckFailedError: a worker process died; what was finished is kept.
    """
    store.prepare()
    tasks = _available(suite, profile, tasks, console)
    tuning = suite.tuning_runs(profile, tasks)
    tests = suite.profiles[profile].test_seeds * len(suite.arm_settings(profile)) * len(tasks)
    with _progress(console) as progress, _Workers(store, workers, progress) as pool:
        pool.finish(tuning, "tuning", len(tuning) + tests)
        records = store.of(tuning)
        while more := grow(tuning, records, suite.growth):
            tuning += more
            pool.finish(more, "tuning beyond the grid", len(tuning) + tests)
            records = store.of(tuning)
        test = suite.test_runs(profile, tasks, choose(records))
        pool.finish(test, "testing", len(tuning) + tests)
    others = set(suite.profiles[profile].updates) - {run.name for run in (*tuning, *test)}
    store.write_index(profile, others, [*tuning, *test])
    text = f"{len(tuning) + tests} records in {store.folder}; tables and figures: python -m bench report {store.folder}"
    console.print(text, highlight=False, soft_wrap=True)


def _available(suite: Suite, profile: str, tasks: Sequence[str], console: Console) -> list[str]:
    """Load tasks and build arms, before any worker starts; leave out tasks whose data are not on this machine."""
    from bench.train import build, task_of

    available = []
    for name in tasks:
        try:
            for each in (name, suite.tasks[name].tuned_on or name):
                task_of(suite.tasks[each])
            for run in suite.outlines(profile, name):  # so that what does not fit is told before anything is trained
                build(run, task_of(run.task))
            available.append(name)
        except MissingDataError as error:
            console.print(f"{name} skipped: {error}", style="yellow", highlight=False, soft_wrap=True)
        except InputError as error:
            raise InputError(f"suite {suite.name}, tasks.{name}: {error}") from None
    if not available:
        raise InputError("none of the tasks can run on this machine; see the lines above")
    return available


class _Workers:
    """Worker processes, which start when the first run needs them and serve all phases of a suite."""

    def __init__(self, store: Store, workers: int, progress: Progress) -> None:
        self.store, self.workers, self.progress = store, workers, progress
        self.bar = progress.add_task("", total=None)
        self.stop: Event | None = None
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None and self.stop is not None:
            self.stop.set()  # for the runs that the pool has already handed out, which it no longer cancels
            self.pool.shutdown(cancel_futures=True)

    def finish(self, runs: Sequence[Run], phase: str, total: int) -> None:
        """Make the records of a phase that are missing."""
        done = self.store.take(runs)
        missing = [run for run in runs if run.key not in done]
        self.progress.update(self.bar, description=phase, total=total, advance=len(runs) - len(missing))
        if not missing:
            return
        pool, console = self._started(len(missing)), self.progress.console
        try:
            futures = [pool.submit(_work, run, self.store.folder) for run in missing]
            for finished, future in enumerate(as_completed(futures), start=1):
                future.result()
                self.progress.advance(self.bar)
                if not console.is_terminal and finished % max(1, len(missing) // 5) == 0:
                    console.print(f"{phase}: {finished} of {len(missing)} runs done")
        except BrokenProcessPool:
            raise CheckFailedError(
                "a worker process died; finished runs are kept, run the same command to go on"
            ) from None

    def _started(self, needed: int) -> ProcessPoolExecutor:
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.stop = context.Event()
            arguments = (self.stop, registry.plugins())
            self.pool = ProcessPoolExecutor(min(self.workers, needed), context, _start_worker, arguments)
        return self.pool


def _start_worker(stop: Event, plugins: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process; a run that has begun may finish
    import torch

    global _stop
    _stop = stop
    registry.plug_in(plugins)
    torch.set_num_threads(1)


def _work(run: Run, folder: Path) -> None:
    from bench.train import train

    if not _stop.is_set():
        Store(folder).save(train(run))


def _progress(console: Console) -> Progress:
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
