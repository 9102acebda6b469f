"""Runs to records: skip what is done, send the rest to a pool of processes, show how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.errors import CheckFailedError
from bench.jobs import Check
from bench.progress import Display
from bench.runs import Run, counted, described, named
from bench.store import Store
from bench.suite import Suite
from bench.tuning import choose, grow
from bench.workers import Execution, Workers


def execute(suite: Suite, profile: str, tasks: Sequence[str], store: Store, display: Display, how: Execution) -> None:
    """Run what is missing of a suite: tuning runs, more where a best rate is at an edge, test runs at the best rates.

    Args:
        suite: the suite.
        profile: name of one of its profiles.
        tasks: names of the tasks to run.
        store: where the records go.
        display: shows how far it is.
        how: by how many workers, and where.

    Raises:
        InputError: data are wrong, or the results folder cannot be written.
        CheckFailedError: runs failed; all others are done.
    """
    store.prepare()
    every = suite.profiles[profile].updates  # what was asked for before is, too, until all is done
    with display, Workers(store, how, display) as pool:
        tuning = suite.tuning_runs(profile, tasks)
        if checked := bool(pool.missing(tuning)):  # no task is loaded where nothing is left to do
            tasks = pool.available([_check(suite, profile, name) for name in tasks])
            tuning = suite.tuning_runs(profile, tasks)
            store.index.write(profile, every, tuning)
        tests = suite.profiles[profile].test_seeds * len(suite.arm_settings(profile)) * len(tasks)
        pool.finish(tuning, "tuning", len(tuning) + tests)
        records = store.of(sound := _sound(tuning, pool.failed))
        while more := grow(sound, records, suite.growth):
            tuning += more
            pool.finish(more, "tuning beyond the grid", len(tuning) + tests)
            records = store.of(sound := _sound(tuning, pool.failed))
        test = suite.test_runs(profile, tasks, choose(records))
        if pool.missing(test):
            if not checked:
                tasks = pool.available([_check(suite, profile, name) for name in tasks])
                test = [run for run in test if run.name in tasks]
            store.index.write(profile, every, [*tuning, *test])
        pool.finish(test, "testing", len(tuning) + tests)
    others = set(suite.profiles[profile].updates) - {run.name for run in (*tuning, *test)}
    store.index.write(profile, others, [*tuning, *test])
    if pool.failed:
        first = next(run for run in (*tuning, *test) if run.key in pool.failed)
        raise CheckFailedError(_failures(store, first, pool.failed, tests - len(test)))
    text = f"{len(tuning) + tests} records in {store.folder}; tables and figures: python -m bench report {store.folder}"
    display.say(text, event=False)


def _sound(tuning: Sequence[Run], failed: Mapping[str, str]) -> list[Run]:
    """Leave out arms of which a run failed: their best rate is not known."""
    broken = {run.place for run in tuning if run.key in failed}
    return [run for run in tuning if run.place not in broken]


def _failures(store: Store, first: Run, failed: Mapping[str, str], untested: int) -> str:
    name = described(named(first))
    lines = f"{counted(len(failed))} failed" + (f", {untested} had to wait for them" if untested else "")
    reason = failed[first.key].removeprefix(f"{name}: ")
    return f"{lines}; the first: {name}: {reason}; python -m bench status {store.folder} lists them"


def _check(suite: Suite, profile: str, name: str) -> Check:
    entries = [suite.tasks[each] for each in (suite.tasks[name].tuned_on or name, name)]
    return Check(suite.name, name, entries, suite.outlines(profile, name))
