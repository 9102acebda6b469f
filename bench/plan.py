"""What a suite would run, and how long it would take; nothing is trained and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import InputError
from bench.runs import Place, Run
from bench.store import Store
from bench.suite import Suite

Cost = tuple[str, ...]
"""What the duration of an update depends on most: task, network and batch."""


@dataclass(frozen=True)
class ArmPlan:
    """What is to do for an arm on a task.

    Attributes:
        place: names of task, space and rule.
        rates: the grid; empty where the rates of ``tuned_at`` are taken.
        tuned_at: where the rate is tuned.
        tuning: number of tuning runs.
        test: number of test runs.
        done: how many of the tuning runs have a record; which tests will run is known once the rates are chosen.
        seconds: estimate for all its runs, one after another; None where nothing like it has been recorded.
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
    costs = _costs(results)
    seeds = suite.profiles[profile].test_seeds
    runs = suite.tuning_runs(profile, tasks)
    plans = []
    for name in dict.fromkeys([*(run.name for run in runs), *tasks]):
        for run in suite.outlines(profile, name):
            own = [each for each in runs if each.place == run.place]
            test = seeds if name in tasks else 0
            per_update = costs.get(_cost(run.model_dump_json()))
            seconds = None if per_update is None else per_update * run.updates * (len(own) + test)
            rates = tuple(dict.fromkeys(each.lr for each in own))
            plans.append(ArmPlan(run.place, rates, run.tuned_at, len(own), test, _done(own, results[0]), seconds))
    return plans


def _done(runs: Iterable[Run], results: Path) -> int:
    return sum(any(results.glob(f"*/records/{run.key}.parquet")) for run in runs)


def _costs(results: Iterable[Path]) -> dict[Cost, float]:
    """Seconds per update by what they depend on: the median over the first folder that has any."""
    costs: dict[Cost, float] = {}
    for folder in results:
        seconds: dict[Cost, list[float]] = {}
        for store in {path.parent.parent for path in folder.glob("*/records/*.parquet")}:
            try:
                records = Store(store).load()
            except InputError:  # of another version, or broken: no help for an estimate
                continue
            for text, whole, updates in records[["specification", "seconds", "updates"]].itertuples(index=False):
                seconds.setdefault(_cost(text), []).append(whole / updates)
        costs = {cost: median(values) for cost, values in seconds.items()} | costs
    return costs


def _cost(specification: str) -> Cost:
    run = json.loads(specification)  # not as a Run: a plug-in that it needs may not be here
    entry = [run["task"][key] for key in ("task", "options", "hidden", "layers", "batch")]
    return tuple(json.dumps(part, sort_keys=True) for part in (*entry, run["space"]["model"]))
