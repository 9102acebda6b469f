"""A pool of processes that turns runs into records, and a bar that shows how far it is."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

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
from bench.errors import CheckFailedError
from bench.runs import Run
from bench.store import Store

_stop: Event  # in a worker: set when no further run should begin


class Execution(NamedTuple):
    """How to train runs.

    Attributes:
        workers: processes, one torch thread each; on a GPU there is one.
        device: where to train, ``"cpu"`` or ``"cuda"``.
        most: train at most so many runs together; as many as the device takes, if it is not given.
    """

    workers: int
    device: str = "cpu"
    most: int | None = None


class Workers:
    """Worker processes, which start when the first run needs them and serve all phases of a suite.

    Args:
        store: where the records go.
        how: by how many workers, and where.
        progress: where a bar is added.
    """

    def __init__(self, store: Store, how: Execution, progress: Progress) -> None:
        self.store, self.how, self.progress = store, how, progress
        self.workers = 1 if how.device == "cuda" else how.workers
        self.bar = progress.add_task("", total=None)
        self.stop: Event | None = None
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None and self.stop is not None:
            self.stop.set()  # for the runs that the pool has already handed out, which it no longer cancels
            self.pool.shutdown(cancel_futures=True)

    def finish(self, runs: Sequence[Run], phase: str, total: int, stacked: bool = True) -> None:
        """Make the records of a phase that are missing.

        Args:
            runs: the runs of the phase.
            phase: its name.
            total: how many runs all phases have.
            stacked: train those together that can be; else each alone, with the recurrent layers of torch.

        Raises:
            CheckFailedError: a run failed, or a worker process died.
        """
        done = self.store.take(runs)
        missing = [run for run in runs if run.key not in done]
        self.progress.update(self.bar, description=phase, total=total, advance=len(runs) - len(missing))
        if not missing:
            return
        jobs = self._jobs(missing, stacked)
        pool, console, finished = self._started(len(jobs)), self.progress.console, 0
        try:
            futures = {pool.submit(_work, job, self.store.folder, self.how.device, stacked): len(job) for job in jobs}
            for future in as_completed(futures):
                future.result()
                self.progress.advance(self.bar, futures[future])
                before, finished, fifth = finished, finished + futures[future], max(1, len(missing) // 5)
                if not console.is_terminal and finished // fifth > before // fifth:
                    console.print(f"{phase}: {finished} of {len(missing)} runs done")
        except BrokenProcessPool:
            raise CheckFailedError(
                "a worker process died; what finished in a results folder is kept, run the same command to go on"
            ) from None

    def _jobs(self, runs: Sequence[Run], stacked: bool) -> Sequence[Sequence[Run]]:
        """Group runs by what a worker does at a time."""
        if not stacked:
            return [[run] for run in runs]
        from bench.stack import stacks

        share = -(-len(runs) // self.workers)  # no worker shall wait for a stack of another
        return stacks(runs, self.how.device, min(share, self.how.most or share))

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


def _work(runs: Sequence[Run], folder: Path, device: str, stacked: bool) -> None:
    from bench.stack import kind, train_stack
    from bench.train import train

    if not _stop.is_set():
        together = stacked and kind(runs[0]) is not None
        for record in train_stack(runs, device) if together else [train(run, device) for run in runs]:
            Store(folder).save(record)


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
