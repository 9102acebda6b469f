"""Runs to records: skip what is done, send the rest to a pool of processes, show how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from bench.errors import InputError, MissingDataError
from bench.store import Store
from bench.suite import Suite
from bench.tuning import choose, grow
from bench.workers import Execution, Workers, progress_bar


def execute(suite: Suite, profile: str, tasks: Sequence[str], store: Store, console: Console, how: Execution) -> None:
    """Run what is missing of a suite: tuning runs, more where a best rate is at an edge, test runs at the best rates.

    Args:
        suite: the suite.
        profile: name of one of its profiles.
        tasks: names of the tasks to run.
        store: where the records go.
        console: where the progress goes.
        how: by how many workers, and where.

    Raises:
        InputError: data are wrong, or the results folder cannot be written.
        CheckFailedError: a worker process died; what was finished is kept.
    """
    store.prepare()
    tasks = _available(suite, profile, tasks, console)
    tuning = suite.tuning_runs(profile, tasks)
    tests = suite.profiles[profile].test_seeds * len(suite.arm_settings(profile)) * len(tasks)
    with progress_bar(console) as progress, Workers(store, how, progress) as pool:
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
