"""What the records say of each arm: the runs that count, its score, and what it gains over weight space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench import stats
from bench.convergence import to_target
from bench.errors import InputError
from bench.seeds import seed
from bench.stats import Interval
from bench.store import Store
from bench.tuning import choose

BASE = "weight"
"""The space that all others are compared with, under the same rule."""

_ORDER = {
    "space": ["weight", "path", "gauge"],
    "rule": ["sgd", "momentum", "rmsprop", "adam", "adamw", "muon"],
}


def rank(kind: str, name: str) -> tuple[int, str]:
    """Sort names of spaces and rules: known ones in the order of tables, others after them by name."""
    known = _ORDER[kind]
    return (known.index(name) if name in known else len(known), name)


def order(task: str, rule: str, space: str = "") -> tuple[str, tuple[int, str], tuple[int, str]]:
    """Sort arms on tasks as all tables and figures do."""
    return task, rank("rule", rule), rank("space", space)


def of_profile(store: Store, profile: str | None) -> pd.DataFrame:
    """Read the records of one profile.

    Args:
        store: the records.
        profile: its name; None where there is only one.

    Returns:
        A row per run.

    Raises:
        InputError: no records, a profile that is not there, or several and none chosen.
    """
    records = store.load()
    known = sorted(set(records["profile"]))
    if profile is None and len(known) > 1:
        raise InputError(f"{store.folder} holds several profiles; choose one of {', '.join(known)} with --profile")
    if profile is not None and profile not in known:
        raise InputError(f"unknown profile {profile!r}; {store.folder} holds {', '.join(known)}")
    return records[records["profile"] == (profile or known[0])].reset_index(drop=True)


def at_best_rate(records: pd.DataFrame) -> pd.DataFrame:
    """Keep the test runs of each arm at the rate that its tuning runs chose.

    Args:
        records: all records of one profile.

    Returns:
        Test records.

    Raises:
        InputError: there are none yet.
    """
    rates = {place: choice.rate for place, choice in choose(records).items()}
    test = records[records["role"] == "test"]
    arms = zip(test["tuned_task"], test["tuned_space"], test["rule_name"], test["lr"], strict=True)
    kept = test[[rates.get((task, space, rule)) == lr for task, space, rule, lr in arms]]
    if kept.empty:
        which = (
            f"of {len(test)} test runs none is at a rate that tuning chose" if len(test) else "there are no test runs"
        )
        raise InputError(f"{which}; let python -m bench run SUITE finish first")
    return kept


@dataclass(frozen=True)
class Row:
    """One arm on one task, over its test seeds.

    Attributes:
        task: its name.
        rule: its name.
        space: its name.
        metric: name and unit of the test metric.
        rate: the best learning rate.
        edge: whether that is the smallest or largest that was tried.
        grown: how many rates were tried beyond the grid.
        seeds: how many there are.
        diverged: how many of them diverged.
        score: interquartile mean of the test metric.
        loss: mean of the last training loss, over the seeds that finished.
        target: seeds that reach the target, and the median of when.
        pairs: seeds that weight space has too.
        gain: mean of the paired difference to weight space; greater is better, whatever the direction of the metric.
        better: probability to beat weight space.
        p: p-value of the sign-flip test of the gain.
        adjusted: the same, Holm-corrected over tasks.
    """

    task: str
    rule: str
    space: str
    metric: str
    rate: float
    edge: bool
    grown: int
    seeds: int
    diverged: int
    score: Interval
    loss: float
    target: str
    pairs: int
    gain: Interval
    better: Interval
    p: float
    adjusted: float = math.nan


def table(test: pd.DataFrame) -> list[Row]:
    """Summarise every arm.

    Args:
        test: the test records of one profile, at the best rates.

    Returns:
        A row per task, rule and space, in the order of tables.
    """
    scores = stats.scores(test)
    arms = test.groupby(["name", "rule_name", "space"], sort=False)
    rows = [_row(str(task), str(rule), str(space), arm, scores) for (task, rule, space), arm in arms]
    return sorted(_adjusted(rows), key=lambda row: order(row.task, row.rule, row.space))


def _row(task: str, rule: str, space: str, arm: pd.DataFrame, scores: pd.DataFrame) -> Row:
    generator = np.random.default_rng(seed("report", task, rule, space))
    own, finished = scores[task, rule, space].dropna(), arm[arm["status"] == "finished"]
    sign = 1 if arm["higher_is_better"].iloc[0] else -1
    compared = space != BASE and (task, rule, BASE) in scores.columns
    difference = stats.differences(own, scores[task, rule, BASE]) if compared else np.empty(0)
    return Row(
        task=task,
        rule=rule,
        space=space,
        metric=str(arm["metric"].iloc[0]),
        rate=float(arm["lr"].iloc[0]),
        edge=bool(arm["edge"].any()),
        grown=int(arm["grown"].max()),
        seeds=len(arm),
        diverged=len(arm) - len(finished),
        score=stats.interval(own, generator, stats.interquartile_mean).scaled(sign),
        loss=float(finished["curve_train_loss"].map(last).mean()),
        target=to_target(arm),
        pairs=len(difference),
        gain=stats.interval(difference, generator),
        better=stats.probability_better(stats.wins(difference)),
        p=stats.sign_flip(difference, generator),
    )


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    """Correct the p-values of an arm for the number of tasks."""
    result = []
    for arm in dict.fromkeys((row.rule, row.space) for row in rows):
        own = [row for row in rows if (row.rule, row.space) == arm]
        adjusted = stats.holm([row.p for row in own])
        result += [replace(row, adjusted=p) for row, p in zip(own, adjusted, strict=True)]
    return result


def sweep(records: pd.DataFrame) -> pd.DataFrame:
    """Summarise the tuning runs: a row per task, rule, space and rate, in the order of tables.

    Args:
        records: all records of one profile.

    Returns:
        Columns ``name``, ``rule_name``, ``space``, ``lr``, ``runs``, ``diverged``, ``best``, whether the rate was
        chosen, and over the runs that finished ``validation``, its ``low`` and ``high``, and ``loss``.
    """
    tuning = records[records["role"] == "tuning"].assign(diverged=lambda frame: frame["status"] != "finished")
    tuning = tuning.assign(loss=tuning["curve_train_loss"].map(last).where(~tuning["diverged"]))
    keys = ["name", "rule_name", "space", "lr"]
    result = tuning.groupby(keys, as_index=False).agg(
        runs=("index", "size"),
        diverged=("diverged", "sum"),
        validation=("validation", "mean"),
        low=("validation", "min"),
        high=("validation", "max"),
        loss=("loss", "mean"),
    )
    rates = {place: choice.rate for place, choice in choose(records).items()}
    places = zip(result["name"], result["space"], result["rule_name"], strict=True)
    chosen = np.array([rates.get(place, math.nan) for place in places])
    result = result.assign(best=result["lr"] == chosen)
    arms = result[["name", "rule_name", "space"]].to_numpy()
    return result.iloc[sorted(range(len(result)), key=lambda row: order(*arms[row]))].reset_index(drop=True)


def last(curve: Sequence[float]) -> float:
    """Take the last value of a curve: the mean since the evaluation before; NaN of one that never began."""
    return float(curve[-1]) if len(curve) else math.nan


def missing(records: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """Say what a whole study would have and these records have not.

    Args:
        records: all records of one profile.
        test: its test records at the best rates.

    Returns:
        A line per task and arm that was tuned or tested elsewhere and has no test run, or fewer seeds than others.
    """
    counts = test.groupby(["name", "rule_name", "space"]).size()
    arms = sorted(set(zip(records["rule_name"], records["space"], strict=True)))
    lines = []
    for task in sorted({*test["name"], *records.loc[records["role"] == "tuning", "name"]}):
        most = max((counts.get((task, *arm), 0) for arm in arms), default=0)
        for rule, space in arms:
            if (count := counts.get((task, rule, space), 0)) < max(most, 1):
                what = f"{count} of {most} test seeds" if count else "no test run"
                lines.append(f"{task}: {rule} in {space} space has {what}")
    return lines


def names(rows: Iterable[Row], kind: str) -> list[str]:
    """List the tasks, rules or spaces of rows, in their order."""
    return list(dict.fromkeys(getattr(row, kind) for row in rows))
