"""What a suite would run, and how long it would take; nothing is trained and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.runs import Place, Run
from bench.store import Store
from bench.suite import Suite
from bench.tuning import choose, grow

Cost = tuple[str, ...]
"""What the duration of an update depends on most: task, network and batch."""


@dataclass(frozen=True)
class ArmPlan:
    """What is to do for an arm on a task.

    Attributes:
        place: names of task, space and rule.
        rates: the grid, and the rates beyond it that are known; empty where the rates of ``tuned_at`` are taken.
        tuned_at: where the rate is tuned.
        tuning: number of tuning runs.
        test: number of test runs.
        done: how many of both have a record; of tests that is known once all tuning runs have one.
        seconds: estimate for the others, one after another; None where nothing like them has been recorded.
    """

    place: Place
    rates: tuple[float, ...]
    tuned_at: Place
    tuning: int
    test: int
    done: int
    seconds: float | None


def plan(suite: Suite, profile: str, tasks: Sequence[str], results: Sequence[Path]) -> list[ArmPlan]:
    """List what a profile asks for, arm by arm.

    Args:
        suite: the suite.
        profile: name of a profile.
        tasks: names of the tasks to run; those that they are tuned on are added.
        results: folders with a folder per suite; the first is that of the records, all serve to estimate the time.

    Returns:
        A plan per task, rule and space.
    """
    costs, store = _costs(results), Store(results[0] / suite.name)
    tuning, tests = _runs(suite, profile, tasks, store)
    done = store.present([*tuning, *tests])
    plans = []
    for name in dict.fromkeys([*(run.name for run in tuning), *tasks]):
        for outline in suite.outlines(profile, name):
            own = [run for run in tuning if run.place == outline.place]
            test = suite.profiles[profile].test_seeds if name in tasks else 0
            finished = sum(run.key in done for run in (*own, *tests) if run.place == outline.place)
            per_update = costs.get(_cost(outline.specification))
            left = (len(own) + test - finished) * outline.updates
            seconds = None if per_update is None else per_update * left
            rates = tuple(sorted({run.lr for run in own}))
            plans.append(ArmPlan(outline.place, rates, outline.tuned_at, len(own), test, finished, seconds))
    return plans


def _runs(suite: Suite, profile: str, tasks: Sequence[str], store: Store) -> tuple[list[Run], list[Run]]:
    """List tuning runs, grown as far as records tell, and test runs, if all those have a record."""
    tuning: list[Run] = []
    more = suite.tuning_runs(profile, tasks)
    while more:
        tuning += more
        if len(store.present(more)) < len(more):
            return tuning, []
        records = store.of(tuning)
        more = grow(tuning, records, suite.growth)
    return tuning, suite.test_runs(profile, tasks, choose(records))


def _costs(results: Iterable[Path]) -> dict[Cost, float]:
    """Seconds per update by what they depend on: the median over the first folder that has any."""
    costs: dict[Cost, float] = {}
    for folder in results:
        seconds: dict[Cost, list[float]] = {}
        for store in {path.parent for path in folder.glob("*/records")}:
            for text, whole, updates in Store(store).durations():
                with suppress(ArithmeticError, LookupError, TypeError, ValueError, RecursionError):  # it was made up
                    seconds.setdefault(_cost(text), []).append(whole / updates)
        costs = {cost: median(values) for cost, values in seconds.items()} | costs
    return costs


def _cost(specification: str) -> Cost:
    run = json.loads(specification)  # not as a Run: a plug-in that it needs may not be here
    entry = [run["task"][key] for key in ("task", "options", "hidden", "layers", "batch")]
    return tuple(json.dumps(part, sort_keys=True) for part in (*entry, run["space"]["model"]))
