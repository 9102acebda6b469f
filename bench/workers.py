"""Workers that turn runs into records, by processes of this machine or a cluster."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from types import FrameType
from typing import Any, NamedTuple

from bench import registry
from bench.checkpoints import Checkpoints
from bench.errors import CheckFailedError, InputError
from bench.jobs import Check, Job, fits, start_worker, versions, work
from bench.pool import Executor, Outcome, Pool
from bench.progress import Display
from bench.runs import Run, counted
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
        every: seconds after which runs in progress are kept, so that they can go on; None for never.
    """

    workers: int
    device: str = "cpu"
    most: int | None = None
    retries: int = 2
    timeout: float | None = None
    executor: str = "pool"
    scheduler: str | None = None
    every: float | None = None


class Workers:
    """Worker processes, which start when the first run needs them and serve all phases of a suite.

    Ctrl-C, or SIGTERM, lets what has begun come to its end; once more, and it stops at once.

    Args:
        store: where the records go.
        how: by how many workers, and where.
        display: shows how far they are.
    """

    def __init__(self, store: Store, how: Execution, display: Display) -> None:
        self.store, self.how, self.display = store, how, display
        self.signs = Signs(store)
        folder = store.folder.absolute() / "checkpoints"
        self.checkpoints = None if how.every is None else Checkpoints(folder, how.every)
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
        make: Callable[..., Executor[Any]]
        make = partial(Pool, work, start=start_worker, arguments=[registry.plugins()], timeout=self.how.timeout)
        if self.how.executor == "dask":
            make = self._cluster(make)
        result = make(count=1 if self.how.device == "cuda" else self.how.workers, say=self.display.say)
        result.stopped = self.stopping
        return result

    def _cluster(self, pool: Callable[..., Any]) -> Callable[..., Executor[Any]]:
        try:
            from bench.cluster import Cluster
        except ImportError as error:
            text = f"--executor dask needs the package distributed, which is not installed: {error}"
            raise InputError(f"{text}; pip install 'pathrnn[cluster]'") from None
        seen, gpu = partial(fits, self.signs.own, versions()), self.how.device == "cuda"
        return partial(Cluster, pool, scheduler=self.how.scheduler, gpu=gpu, fits=seen)

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
        self.display.say(f"stopping when what has begun has ended, {counted(running)}; once more: at once")

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
            self.signs.give([])
            for outcome in self.pool.wait(1.0):
                self.tries[name := outcome.job.name] += 1
                if outcome.died and self.tries[name] <= self.how.retries:
                    self.pool.submit(outcome.job)
                else:
                    outcomes[name] = outcome
            self._require_going_on()
        for name, outcome in outcomes.items():
            if outcome.reason:
                raise CheckFailedError(f"{name}: {outcome.reason}")
        missing = {check.name: outcomes[check.name].value for check in checks if outcomes[check.name].value}
        for name, text in missing.items():
            self.display.say(f"{name} skipped: {text}", style="yellow")
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
            self.done |= self.store.take(unknown, self.display.say)
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
        self.display.begin(phase, len(runs), len(missing), total)
        groups = self._groups(runs, missing, stacked)
        if self.signs.others():  # lest both begin with the same
            random.Random(str(self.signs.own)).shuffle(groups)
        for own in groups:
            self.pool.submit(Job(own, self.store.folder.absolute(), self.how.device, stacked, self.checkpoints))
        left = len(missing)
        while left:
            running = [run for job in self._running for run in job.runs]
            self.signs.give(running)
            self.display.show(len(running))
            left -= sum(map(self._settle, self.pool.wait(1.0)))
            self._require_going_on()
        if self.checkpoints:
            self.checkpoints.forget(runs)  # of stacks that were trained otherwise, in the end

    def _groups(self, runs: Sequence[Run], missing: Sequence[Run], stacked: bool) -> list[list[Run]]:
        """Group missing runs by what a worker does at a time; those that were in progress together stay so."""
        if not stacked or not missing:
            return [[run] for run in missing]
        from bench.groups import largest, stacks

        how, share = self.how, -(-len(missing) // self.pool.count)  # no worker shall wait for a stack of another
        device = None if how.scheduler and how.device == "cuda" else how.device
        begun = self.checkpoints.groups(runs, self.done) if self.checkpoints else []
        begun = [own for own in begun if len(own) <= largest(own[0], device, how.most or len(own))]
        others = [run for run in missing if not any(run in group for group in begun)]
        return [*begun, *stacks(others, device, min(share, how.most or share))]

    def _settle(self, outcome: Outcome[Job]) -> int:
        """Try again what may succeed, and note what failed; count the runs that are settled."""
        runs = [run for run in outcome.job.runs if run.key not in self.done]
        if not outcome.reason:
            told = {each["key"] for each in outcome.value}
            self.display.trouble(
                "found", [run for run in runs if run.key not in told], "another process made its record"
            )
            self.display.ended(len(runs), outcome.value)
            return len(runs)
        if self.stopping and outcome.died:  # unfinished, not failed
            return 0
        if len(outcome.job.runs) == 1:  # to take a stack apart is no try
            self.tries[runs[0].key] += 1
        left = [run for run in runs if not self.store.has(run)]
        jobs = self._again(outcome, left)
        for job in jobs:
            self.pool.submit(job)
        again = [run for job in jobs for run in job.runs]
        failed = [run for run in left if run not in again]
        for run in failed:
            self._give_up(run, outcome)
        self.display.trouble("again", again, outcome.reason)
        text = f"{counted(len(left))} of {runs[0].name}: {outcome.reason}" + ("; trying again" if again else "")
        self.display.say(text, event=False)
        self.display.ended(len(runs) - len(again), [], len(failed))
        return len(runs) - len(again)

    def _again(self, outcome: Outcome[Job], left: Sequence[Run]) -> list[Job]:
        """List what may succeed another time: after a death, or without the others of its stack."""
        job = outcome.job
        if len(job.runs) > 1:
            if outcome.died and left and self.checkpoints and self.checkpoints.path(job.runs).exists():
                name = self.checkpoints.path(job.runs).name
                self.tries[name] += 1
                if self.tries[name] <= self.how.retries:
                    return [job]
            return [job._replace(runs=[run]) for run in left]
        lucky = outcome.died and self.tries[job.runs[0].key] <= self.how.retries
        return [job] if left and lucky else []

    def _give_up(self, run: Run, outcome: Outcome[Job]) -> None:
        tries = self.tries[run.key]
        self.store.failures.note(run, outcome.reason, tries, outcome.tail)
        self.failed[run.key] = outcome.reason
        self.display.trouble("failed", [run], outcome.reason, tries=tries)
        if self.checkpoints:
            self.checkpoints.forget([run])
