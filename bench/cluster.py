"""A pool on a Dask cluster, whose workers are :mod:`bench.place`."""

from __future__ import annotations

import logging
import queue
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, Generic

from distributed import Client, Future, KilledWorker, LocalCluster

from bench import place
from bench.errors import CheckFailedError, InputError, in_a_line
from bench.pool import J, Outcome, Pool

GPU = "GPU"
"""The Dask resource of which a job on a GPU takes one."""
_AHEAD, _PATIENCE = 16, 10
"""Jobs that wait in the cluster, at least, so that one that adapts sees need; seconds to wait for its scheduler."""
_ADDRESS = r"(tcp|tls|ws|wss|ucx)://\S+:\d+"
_PREFIX = "pathrnn-"
"""How plugins begin that :class:`bench.place.Place` is registered as; the rest is the client."""


class Cluster(Generic[J]):
    """A pool (:class:`bench.pool.Pool`) whose processes are children of the workers of a Dask cluster.

    So a job that crashes or hangs costs no worker, and its last lines are known; where a machine is lost, Dask gives
    its jobs to another.

    Args:
        pool: makes a pool from ``count`` and ``say``, in a worker.
        count: workers of a cluster of our own, where no ``scheduler`` is given.
        say: takes lines that processes log.
        scheduler: address of the scheduler of a cluster, such as ``"tcp://10.0.0.1:8786"``.
        gpu: whether a job takes a GPU: workers then must offer the resource ``GPU``.
        fits: raises InputError in a worker that cannot take part; importable.

    Raises:
        InputError: the scheduler does not answer.
    """

    def __init__(
        self,
        pool: Callable[..., Pool[J]],
        count: int,
        say: Callable[[str], None],
        scheduler: str | None = None,
        gpu: bool = False,
        fits: Callable[[], None] | None = None,
    ) -> None:
        for name in list(logging.root.manager.loggerDict):
            if name.startswith(("distributed", "tornado", "asyncio")):  # outcomes say what matters
                logging.getLogger(name).setLevel(logging.CRITICAL)
        if scheduler and not re.fullmatch(_ADDRESS, scheduler):
            raise InputError(f"--scheduler must be an address such as tcp://10.0.0.1:8786, got {scheduler}")
        self.count, self.stopped, self._held, self.say = 1, False, False, say
        self._resource = {GPU: 1} if gpu else None
        self._closing, self._queue = ExitStack(), deque[J]()
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._jobs: dict[Future[Any], J] = {}
        self._begun, self._workers, self._looked = set[str](), set[str](), -1.0
        self._address = scheduler or "the cluster"
        self._place = partial(place.Place, pool=partial(pool, count=1), fits=fits)
        try:
            self._open(count, scheduler)
        except BaseException:
            self.close()
            raise

    def _open(self, count: int, scheduler: str | None) -> None:
        address: Any = scheduler or self._closing.enter_context(_own(count, self._resource))
        try:
            self._client = self._closing.enter_context(_client(address))
        except (OSError, ValueError) as error:
            text = f"--scheduler must be the address of a running Dask scheduler, got {scheduler}: {in_a_line(error)}"
            raise InputError(text) from None
        self._name = f"{_PREFIX}{self._client.id}"
        self._closing.callback(self._take_leave)
        self._client.subscribe_topic(self._name, self._hear)
        with suppress(Exception):  # a scheduler without this package cannot tell
            for name in self._client.run_on_scheduler(_left_behind):
                self._client.unregister_worker_plugin(name)
        self._install()
        self._look()

    def _install(self) -> None:
        self._installed = time.monotonic()
        try:
            self._client.register_plugin(self._place(self._name), name=self._name)
        except ImportError as error:
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
            InputError: a job met with bad input, or no worker can take part.
            CheckFailedError: the scheduler has gone.
        """
        if self._client.status == "running":  # else it tries to connect again
            with suppress(OSError):
                self._hold() if self.stopped else self._hand_out()
        ended = []
        with suppress(queue.Empty):
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        if not ended and self._client.status in {"closing", "closed"}:
            raise CheckFailedError(f"{self._address} has gone; what finished is kept, run the same command to go on")
        return [outcome for future in ended if future in self._jobs for outcome in self._settled(future)]

    def _settled(self, future: Future[Any]) -> list[Outcome[J]]:
        job = self._jobs.pop(future)
        try:
            outcome = self._outcome(future, job)
        except OSError:  # the connection is lost while we ask
            self._again(job)
            return []
        return [] if outcome is None else [outcome]

    def _hand_out(self) -> None:
        """Send jobs, as many as there are places and some more."""
        if time.monotonic() - self._looked > 1:
            self._look()
        while self._queue and len(self._jobs) < self.count + max(self.count, _AHEAD):
            job = self._queue.popleft()
            call = partial(place.do, self._name, job)  # no argument, which Dask would look into
            future = self._client.submit(call, pure=False, resources=self._resource)
            self._jobs[future] = job
            future.add_done_callback(self._ended.put)

    def _look(self) -> None:
        """Count the jobs that the workers can do at a time; refuse workers that can do none."""
        first, self._looked = self._looked < 0, time.monotonic()
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        places = (each["resources"].get(GPU, 0) if self._resource else each["nthreads"] for each in workers.values())
        self.count, self._workers = max(1, total := int(sum(places))), set(workers)
        if workers and not total:
            must = "must have workers with a GPU, which offer it as they start: dask worker --resources GPU=1"
            raise InputError(f"{self._address} {must}; or use --device cpu")
        if first and not workers:
            self.say(f"{self._address} has no workers yet, waiting for them")

    def _hold(self) -> None:
        """Let workers end what they have begun, and begin nothing."""
        if not self._held:
            begun = self._client.run(place.hold, self._name, on_error="ignore")
            self._held = True
            self._begun.update(key for keys in begun.values() for key in keys)
            self._client.cancel([future for future in self._jobs if future.key not in self._begun])

    def _outcome(self, future: Future[Any], job: J) -> Outcome[J] | None:
        """Translate what Dask says of a job; None if it was not begun, and waits for another time."""
        if future.status == "cancelled":  # by us, or as the connection was lost, after which nothing of it is known
            self._again(job)
            return None
        if future.status == "finished":
            worker, kind, value = future.result()
            if kind == "done":
                return Outcome(job, *value)
            self._not_begun(worker, kind, value, job)
            return None
        error: Any = future.exception()  # type: ignore[no-untyped-call]
        if isinstance(error, KilledWorker):
            return Outcome(job, "the machines that worked on it died one after another", died=True)
        if isinstance(error, InputError | CheckFailedError):
            raise error
        return Outcome(job, in_a_line(error or Exception("the cluster lost it")), died=True)

    def _not_begun(self, worker: str, kind: str, reason: str, job: J) -> None:
        """Deal with a worker that has not begun a job."""
        if kind == "absent" and time.monotonic() - self._installed > _PATIENCE:  # of a scheduler that was started anew
            self._install()
        if kind == "refused" and worker in self._workers:
            self._workers.discard(worker)
            if not self._workers:
                raise InputError(reason)
            self.say(f"{worker} is sent away: {reason}")
            self._client.retire_workers([worker])
        self._again(job)

    def _again(self, job: J) -> None:
        if not self._held:
            self._queue.appendleft(job)

    def _take_leave(self) -> None:
        """End processes, whatever they are doing."""
        with suppress(Exception):  # of a cluster that may have gone
            if self._client.status == "running":
                self._client.cancel(list(self._jobs))
                self._client.unregister_worker_plugin(self._name)

    def close(self) -> None:
        """End all processes; at once, whatever they are doing. A cluster of our own ends too."""
        self._closing.close()


def _left_behind(dask_scheduler: Any) -> list[str]:
    """List plugins of main processes that were killed."""
    names = [name for name in dask_scheduler.worker_plugins if name.startswith(_PREFIX)]
    return [name for name in names if name.removeprefix(_PREFIX) not in dask_scheduler.clients]


def _own(count: int, resource: dict[str, int] | None) -> LocalCluster:
    settings: Any = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with _deaf():
        return LocalCluster(n_workers=count, resources=resource, **settings)  # type: ignore[no-untyped-call]


@contextmanager
def _deaf() -> Iterator[None]:
    """Let threads and processes that are begun, and all that they begin, hear no signal, which are for this one."""
    resource_tracker.ensure_running()  # which would let them hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _client(address: Any) -> Client:
    return Client(address, timeout=_PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
