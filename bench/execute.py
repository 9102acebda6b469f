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
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.errors import CheckFailedError, InputError, MissingDataError
from bench.select import best_rates
from bench.store import Store
from bench.suite import Run, Suite

_stop: Event  # in a worker: set when no further run should begin


def execute(suite: Suite, profile: str, tasks: Sequence[str], store: Store, workers: int, console: Console) -> None:
    """Run what is missing of a suite: tuning runs first, then test runs at the best rates.

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
    tuning = suite.runs(profile, "tuning", tasks, {})
    arms = len(suite.spaces) * len(suite.rules) * len(tasks)
    total = len(tuning) + suite.profiles[profile].test_seeds * arms
    with _progress(console) as progress:
        bar = progress.add_task("tuning", total=total)
        _finish(tuning, store, workers, progress, bar)
        records = store.load()
        test = suite.runs(profile, "test", tasks, best_rates(records[records["key"].isin([run.key for run in tuning])]))
        progress.update(bar, description="testing")
        _finish(test, store, workers, progress, bar)


def _available(suite: Suite, profile: str, tasks: Sequence[str], console: Console) -> list[str]:
    """Load each task once, before any worker starts, and leave out those whose data are not on this machine."""
    from bench.train import task_of

    available = []
    for run in (runs[0] for task in tasks if (runs := suite.runs(profile, "tuning", [task], {}))):
        try:
            task_of(run)
            available.append(run.name)
        except MissingDataError as error:
            console.print(f"{run.name} skipped: {error}", style="yellow", highlight=False, soft_wrap=True)
    if not available:
        raise InputError(f"no task of profile {profile!r} can run on this machine; see the lines above")
    return available


def _finish(runs: Sequence[Run], store: Store, workers: int, progress: Progress, bar: TaskID) -> None:
    done = store.keys()
    missing = [run for run in runs if run.key not in done]
    progress.advance(bar, len(runs) - len(missing))
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(workers, len(missing)), context, _start_worker, (stop,))
    try:
        futures = [pool.submit(_work, run, store.folder) for run in missing]
        for finished, future in enumerate(as_completed(futures), start=1):
            future.result()
            progress.advance(bar)
            if not progress.console.is_terminal and finished % max(1, len(missing) // 5) == 0:
                progress.console.print(f"{progress.tasks[0].description}: {finished} of {len(missing)} runs done")
    except BrokenProcessPool:
        raise CheckFailedError("a worker process died; finished runs are kept, run the same command to go on") from None
    finally:
        stop.set()  # for the runs that the pool has already handed out, which it no longer cancels
        pool.shutdown(cancel_futures=True)  # no with block: the shutdown at its end would undo the cancelling


def _start_worker(stop: Event) -> None:
    import torch

    global _stop
    _stop = stop
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process; a run that has begun may finish


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
