"""A pool on a Dask cluster: its workers take jobs, each with a process of its own that may die without them."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Generic
from uuid import uuid4

from distributed import Client, Future, KilledWorker, LocalCluster, WorkerPlugin, get_worker

from bench.errors import CheckFailedError, InputError, in_a_line
from bench.pool import J, Outcome, Pool

GPU = "GPU"
"""The Dask resource of which a job on a GPU takes one."""
_AHEAD, _PATIENCE = 16, 10
"""Jobs that wait in the cluster, at least, so that one that adapts sees need; seconds to wait for its scheduler."""
_LOST = "the cluster lost it"


class Cluster(Generic[J]):
    """A pool (:class:`bench.pool.Pool`) whose processes are children of the workers of a Dask cluster.

    So a job that crashes or hangs costs no worker, and its last lines are known; where a machine is lost, Dask gives
    its jobs to another.

    Args:
        work: does a job; importable.
        count: workers of a cluster of our own, where no ``scheduler`` is given.
        start: called in each process before its first job; importable.
        arguments: arguments of ``start``.
        say: takes lines that processes log.
        timeout: seconds that a job may take; None for any time.
        scheduler: address of the scheduler of a cluster, such as ``"tcp://10.0.0.1:8786"``.
        gpu: whether a job takes a GPU: workers then must offer the resource ``GPU``.
        fits: raises InputError in a worker that cannot take part; importable.

    Raises:
        InputError: the scheduler does not answer.
    """

    def __init__(
        self,
        work: Callable[[J], Any],
        count: int,
        start: Callable[..., None],
        arguments: Sequence[Any],
        say: Callable[[str], None],
        timeout: float | None = None,
        scheduler: str | None = None,
        gpu: bool = False,
        fits: Callable[[], None] | None = None,
    ) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # outcomes say what matters
        self.stopped, self._held, self.say = False, False, say
        self._resource = {GPU: 1} if gpu else None
        self._closing, self._queue = ExitStack(), deque[J]()
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._jobs: dict[Future[Any], J] = {}
        self._begun, self._looked = set[str](), -1.0
        address: Any = scheduler or self._closing.enter_context(_own(count, self._resource))
        self._address = scheduler or "the cluster"
        self._gone = f"{self._address} has gone; what finished is kept, run the same command to go on"
        self._name = f"pathrnn-{uuid4().hex}"
        try:
            self._client = self._closing.enter_context(_client(address))
        except (OSError, ValueError) as error:
            text = f"--scheduler must be the address of a running Dask scheduler, got {scheduler}: {in_a_line(error)}"
            raise InputError(text) from None
        self._closing.callback(self._take_leave)
        self._client.subscribe_topic(self._name, self._hear)
        self._install(_Place(self._name, partial(Pool, work, 1, start, arguments, timeout=timeout), fits))
        self.count = max(1, self._places())

    def _install(self, place: _Place) -> None:
        try:
            self._client.register_plugin(place, name=self._name)
        except ImportError as error:
            self._closing.close()
            raise InputError(f"workers of {self._address} must have this package installed: {error}") from None

    def _hear(self, event: tuple[float, list[str]]) -> None:
        """Take what a worker tells, in the thread of the client."""
        kind, text = event[1]
        self._begun.add(text) if kind == "begun" else self.say(text)

    def submit(self, job: J) -> None:
        """Add a job."""
        self._queue.append(job)

    @property
    def running(self) -> list[J]:
        """The jobs that are being done; once stopped, those that have not come back."""
        return [job for future, job in self._jobs.items() if self._held or future.key in self._begun]

    def wait(self, seconds: float) -> list[Outcome[J]]:
        """Let workers work until a job ends, or for so many seconds.

        Returns:
            How jobs ended; none, or several.

        Raises:
            InputError: a job met with bad input, or a worker cannot take part.
            CheckFailedError: the scheduler has gone.
        """
        try:
            self._hold() if self.stopped else self._hand_out()
        except OSError:
            raise CheckFailedError(self._gone) from None
        ended = []
        with suppress(queue.Empty):
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        if not ended and self._client.status != "running":
            raise CheckFailedError(self._gone)
        outcomes = [self._outcome(future, self._jobs.pop(future)) for future in ended if future in self._jobs]
        return [outcome for outcome in outcomes if outcome is not None]

    def _hand_out(self) -> None:
        """Send jobs, as many as there are places and some more."""
        if time.monotonic() - self._looked > 1:
            places, first, self._looked = self._places(), self._looked < 0, time.monotonic()
            if first and not places:
                self.say(f"{self._address} has no workers yet, waiting for them")
            self.count = max(1, places)
        while self._queue and len(self._jobs) < self.count + max(self.count, _AHEAD):
            job = self._queue.popleft()
            call = partial(_do, self._name, job)  # no argument, which Dask would look into
            future = self._client.submit(call, pure=False, resources=self._resource)
            self._jobs[future] = job
            future.add_done_callback(self._ended.put)

    def _places(self) -> int:
        """Count the jobs that the workers can do at a time; refuse workers that can do none."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        places = sum(each["resources"].get(GPU, 0) if self._resource else each["nthreads"] for each in workers)
        if workers and not places:
            must = "must have workers with a GPU, which offer it as they start: dask worker --resources GPU=1"
            raise InputError(f"{self._address} {must}; or use --device cpu")
        return int(places)

    def _hold(self) -> None:
        """Let workers end what they have begun, and begin nothing."""
        if not self._held:
            self._held = True
            self._client.run(_hold_place, self._name)
            self._client.cancel([future for future in self._jobs if future.key not in self._begun])

    def _outcome(self, future: Future[Any], job: J) -> Outcome[J] | None:
        """Translate what Dask says of a job; None if it was not begun."""
        if future.status == "cancelled":
            return None if self._held else Outcome(job, _LOST, died=True)
        if future.status == "finished":
            outcome = future.result()
            return None if outcome is None else Outcome(job, *outcome)
        error: Any = future.exception()  # type: ignore[no-untyped-call]
        if isinstance(error, KilledWorker):
            return Outcome(job, "the machines that worked on it died one after another", died=True)
        if isinstance(error, InputError | CheckFailedError):
            raise error
        return Outcome(job, in_a_line(error or Exception(_LOST)), died=True)

    def _take_leave(self) -> None:
        """End processes, whatever they are doing."""
        with suppress(Exception):  # of a cluster that may have gone
            self._client.cancel(list(self._jobs))
            self._client.unregister_worker_plugin(self._name)

    def close(self) -> None:
        """End all processes; at once, whatever they are doing. A cluster of our own ends too."""
        self._closing.close()


def _own(count: int, resource: dict[str, int] | None) -> LocalCluster:
    settings: Any = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    return LocalCluster(n_workers=count, resources=resource, **settings)  # type: ignore[no-untyped-call]


def _client(address: Any) -> Client:
    return Client(address, timeout=_PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]


class _Place(WorkerPlugin):
    """The processes of a Dask worker, one for each of its threads that ever worked at the same time."""

    def __init__(self, name: str, pool: Callable[..., Pool[Any]], fits: Callable[[], None] | None) -> None:
        self.name, self.pool, self.fits = name, pool, fits
        self.free, self.pools, self.held, self.ended = list[Any](), list[Any](), False, False

    def setup(self, worker: Any) -> None:
        multiprocessing.current_process().daemon = False  # a nanny starts workers as daemons, who may have no children

    def teardown(self, worker: Any) -> None:
        self.held = self.ended = True
        for pool in self.pools:
            pool.kill()

    def do(self, job: Any) -> tuple[Any, ...] | None:
        """Do a job; return an outcome without the job."""
        if self.held:
            return None
        if self.fits is not None:
            self.fits()
            self.fits = None
        self._tell("begun", get_worker().get_current_task())
        if self.free:
            pool = self.free.pop()
        else:
            pool = self.pool(say=partial(self._tell, "log"))
            self.pools.append(pool)
        pool.submit(job)
        try:
            while not (outcomes := pool.wait(1.0)):
                if self.ended:
                    return None
        finally:
            self.free.append(pool)
        return tuple(outcomes[0][1:])

    def _tell(self, kind: str, text: Any) -> None:
        get_worker().log_event(self.name, [kind, text])


def _do(name: str, job: Any) -> Any:
    place: Any = get_worker().plugins[name]
    return place.do(job)


def _hold_place(name: str, dask_worker: Any) -> None:
    dask_worker.plugins[name].held = True
