"""A pool of processes that turns runs into records, and a bar that shows how far it is."""

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
from bench.errors import CheckFailedError
from bench.runs import Run
from bench.store import Store

_stop: Event  # in a worker: set when no further run should begin


class Workers:
    """Worker processes, which start when the first run needs them and serve all phases of a suite.

    Args:
        store: where the records go.
        workers: processes, one torch thread each.
        progress: where a bar is added.
    """

    def __init__(self, store: Store, workers: int, progress: Progress) -> None:
        self.store, self.workers, self.progress = store, workers, progress
        self.bar = progress.add_task("", total=None)
        self.stop: Event | None = None
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None and self.stop is not None:
            self.stop.set()  # for the runs that the pool has already handed out, which it no longer cancels
            self.pool.shutdown(cancel_futures=True)

    def finish(self, runs: Sequence[Run], phase: str, total: int) -> None:
        """Make the records of a phase that are missing.

        Args:
            runs: the runs of the phase.
            phase: its name.
            total: how many runs all phases have.

        Raises:
            CheckFailedError: a run failed, or a worker process died.
        """
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
                "a worker process died; what finished in a results folder is kept, run the same command to go on"
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
