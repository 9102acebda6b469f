"""A worker of a Dask cluster as a place for jobs: it keeps a process for each, which may die without it."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from distributed import WorkerPlugin, get_worker

from bench.errors import InputError
from bench.pool import Pool


class Place(WorkerPlugin):
    """The processes of a Dask worker, one for each of its threads that ever worked at the same time.

    Args:
        name: that of the plugin, and of the topic on which it tells what is begun and what processes log.
        pool: makes a pool of one process.
        fits: raises InputError where this worker cannot take part.
    """

    def __init__(self, name: str, pool: Callable[..., Pool[Any]], fits: Callable[[], None] | None) -> None:
        self.name, self.pool, self.fits = name, pool, fits

    def setup(self, worker: Any) -> None:
        """Get ready, in a worker."""
        multiprocessing.current_process().daemon = False  # a nanny starts workers as daemons, who may have no children
        self.lock, self.held, self.ended = threading.Lock(), False, False
        self.begun, self.free, self.pools = set[str](), list[Pool[Any]](), list[Pool[Any]]()

    def teardown(self, worker: Any) -> None:
        """End all processes, whatever they are doing."""
        with self.lock:
            self.held = self.ended = True
            for pool in self.pools:
                pool.kill()

    def hold(self) -> list[str]:
        """Begin nothing from now on; return the keys of what has begun."""
        with self.lock:
            self.held = True
            return sorted(self.begun)

    def do(self, key: str, job: Any) -> tuple[str, Any]:
        """Do a job.

        Args:
            key: what Dask calls it.
            job: the job.

        Returns:
            ``"done"`` and how it ended; or why it was not begun: ``"held"``, or ``"refused"`` with the reason.
        """
        with self.lock:
            if self.held:
                return "held", None
            try:
                self._require_fitting()
            except InputError as error:
                return "refused", str(error)
            self.begun.add(key)
            pool = self.free.pop() if self.free else self._opened()
        self._tell("begun", key)
        pool.submit(job)
        try:
            while not (outcomes := pool.wait(1.0)):
                if self.ended:
                    return "held", None
        finally:
            with self.lock:
                self.begun.discard(key)
                self.free.append(pool)
                if self.ended:
                    pool.close()  # it may have begun a process while others were killed
        return "done", tuple(outcomes[0][1:])

    def _require_fitting(self) -> None:
        if self.fits is not None:
            self.fits()
            self.fits = None

    def _opened(self) -> Pool[Any]:
        self.pools.append(self.pool(say=partial(self._tell, "log")))
        return self.pools[-1]

    def _tell(self, kind: str, text: str) -> None:
        get_worker().log_event(self.name, [kind, text])


def do(name: str, job: Any) -> tuple[str, str, Any]:
    """Do a job in this worker; return what :meth:`Place.do` does, behind the worker's address."""
    worker = get_worker()
    place: Any = worker.plugins.get(name)
    if place is None:
        return worker.address, "absent", None
    return worker.address, *place.do(str(worker.get_current_task()), job)


def hold(name: str, dask_worker: Any) -> list[str]:
    """Let a worker begin nothing from now on; return the keys of what it has begun."""
    place: Any = dask_worker.plugins.get(name)
    return [] if place is None else place.hold()
