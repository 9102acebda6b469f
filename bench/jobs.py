"""What worker processes do: look at tasks and arms before a suite begins, and train."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bench import registry
from bench.checkpoints import Checkpoints
from bench.entries import TaskEntry
from bench.environment import sources
from bench.errors import CheckFailedError, InputError, MissingDataError
from bench.progress import result
from bench.records import Records
from bench.runs import METHOD_VERSION, RECORD_VERSION, Run


class Job(NamedTuple):
    """What a worker does at a time.

    Attributes:
        runs: what to train, together where ``stacked``.
        folder: the folder of their store.
        device: where to train.
        stacked: whether to train as a stack; else with the recurrent layers of torch.
        checkpoints: where to keep them while they are in progress; None for nowhere.
    """

    runs: Sequence[Run]
    folder: Path
    device: str
    stacked: bool
    checkpoints: Checkpoints | None


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


def versions() -> dict[str, str | int]:
    """Tell what all machines of a cluster must have in common."""
    return {"method": METHOD_VERSION, "record": RECORD_VERSION, "code": sources(), "torch": version("torch")}


def fits(sign: Path, wanted: dict[str, str | int]) -> None:
    """See whether this machine can work for a main process that has left a sign of life."""
    here = platform.node()
    if not sign.exists():
        folder = sign.parent.parent
        raise InputError(f"all machines of a cluster must share the folder of results, {here} does not see {folder}")
    if (own := versions()) != wanted:
        other = ", ".join(f"{name} {own[name]}, not {each}" for name, each in wanted.items() if own[name] != each)
        raise InputError(f"all machines of a cluster must have the same code and torch, {here} has {other}")


def start_worker(plugins: list[str]) -> None:
    """Import what a worker process needs, before its first job."""
    import torch

    registry.plug_in(plugins)
    torch.set_num_threads(1)


def work(job: Job | Check) -> Any:
    """Do a job, in a worker process.

    Args:
        job: what to do.

    Returns:
        Of a check, why the task cannot run on this machine, if it cannot; else what came out of the runs.
    """
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


def _train(job: Job) -> list[dict[str, Any]]:
    from bench.groups import kind
    from bench.stack import train_stack
    from bench.train import train

    store, kept = Records(job.folder), job.checkpoints
    missing = [run for run in job.runs if not store.has(run)]  # others may work for the same folder
    runs = job.runs if missing and kept and kept.path(job.runs).exists() else missing
    try:
        if job.stacked and missing and kind(missing[0]) is not None:
            records = train_stack(runs, job.device, kept)
        else:
            records = [train(run, job.device, kept and kept.of([run])) for run in runs]
    except InputError as error:  # a setting of this run, which is no reason to stop the others
        raise CheckFailedError(str(error)) from error
    new = [(record, run) for record, run in zip(records, runs, strict=True) if run in missing]
    for record, _ in new:
        store.save(record)
    if kept is not None:
        kept.forget(runs)
    return [result(record, run) for record, run in new]
