"""Runs to records: skip what is done, send the rest to a pool of processes, show how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from bench.errors import CheckFailedError
from bench.files import BrokenFileError
from bench.plan import runs_of
from bench.runs import Run
from bench.store import Store
from bench.suite import Suite
from bench.tuning import choose, grow
from bench.workers import Check, Execution, Workers, progress_bar


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
        CheckFailedError: runs failed; all others are done.
    """
    store.prepare()
    every = suite.profiles[profile].updates  # what was asked for before is, too, until all is done
    with progress_bar(console) as progress, Workers(store, how, progress) as pool:
        if not _complete(suite, profile, tasks, store):
            tasks = pool.available([_check(suite, profile, name) for name in tasks])
        tuning = suite.tuning_runs(profile, tasks)
        tests = suite.profiles[profile].test_seeds * len(suite.arm_settings(profile)) * len(tasks)
        store.write_index(profile, every, tuning)
        pool.finish(tuning, "tuning", len(tuning) + tests)
        while (sound := _sound(tuning, pool.failed)) and (more := grow(sound, store.of(sound), suite.growth)):
            tuning += more
            store.write_index(profile, every, tuning)
            pool.finish(more, "tuning beyond the grid", len(tuning) + tests)
        test = suite.test_runs(profile, tasks, choose(store.of(sound)) if sound else {})
        store.write_index(profile, every, [*tuning, *test])
        pool.finish(test, "testing", len(tuning) + tests)
    others = set(suite.profiles[profile].updates) - {run.name for run in (*tuning, *test)}
    store.write_index(profile, others, [*tuning, *test])
    if pool.failed:
        untested = tests - len(test)
        failed = [run for run in (*tuning, *test) if run in pool.failed]
        raise CheckFailedError(_failures(store, failed, untested))
    text = f"{len(tuning) + tests} records in {store.folder}; tables and figures: python -m bench report {store.folder}"
    console.print(text, highlight=False, soft_wrap=True)


def _sound(tuning: Sequence[Run], failed: Sequence[Run]) -> list[Run]:
    """Leave out arms of which a run failed: their best rate is not known."""
    broken = {run.place for run in failed}
    return [run for run in tuning if run.place not in broken]


def _failures(store: Store, failed: Sequence[Run], untested: int) -> str:
    run, notes = failed[0], store.failures.all()
    first = f"{run.rule_name} in {run.space_name} space on {run.name}, seed {run.index}, rate {run.lr:g}"
    lines = f"{len(failed)} runs failed" + (f", {untested} had to wait for them" if untested else "")
    reason = notes[run.key]["reason"].removeprefix(f"{first}: ")
    return f"{lines}; the first: {first}: {reason}; python -m bench status {store.folder} lists them"


def _complete(suite: Suite, profile: str, tasks: Sequence[str], store: Store) -> bool:
    """Tell whether nothing is left to do, so that no task has to be loaded."""
    try:
        tuning, tests = runs_of(suite, profile, tasks, store)
    except BrokenFileError:
        return False
    return bool(tests) and len(store.present([*tuning, *tests])) == len({run.key for run in (*tuning, *tests)})


def _check(suite: Suite, profile: str, name: str) -> Check:
    entries = [suite.tasks[each] for each in (suite.tasks[name].tuned_on or name, name)]
    return Check(suite.name, name, entries, suite.outlines(profile, name))
