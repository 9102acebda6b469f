"""Two folders of results of one suite side by side: what changed from one commit, or one machine, to the other."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import stats
from bench.entries import Rule, SpaceEntry, TaskEntry
from bench.environment import MACHINE
from bench.errors import InputError
from bench.regression import diverges_more, fell
from bench.runs import outcome
from bench.seeds import seed
from bench.stats import Interval
from bench.store import Store
from bench.summary import at_best_rate, of_profile, order

DIVERGING = stats.ALPHA / 2
"""What the p-value of divergence must be below: it adds to the false alarms of the arms, which are 3 % at most."""
WORSE = "worse (regression)"

Place = tuple[str, str, str]
"""Names of task, rule and space."""
Pair = tuple[pd.DataFrame, pd.DataFrame]
"""Test records of A and B, a row per seed."""


class Row(NamedTuple):
    """An arm on a task that both have, over the seeds that both have.

    Attributes:
        place: names of task, rule and space.
        metric: name and unit of the test metric.
        rates: best learning rates of A and B.
        scores: interquartile means of the test metric of A and B.
        difference: mean of B - A by seed, in units of the metric.
        gain: its estimate, greater is better.
        same: whether the metrics are bit for bit the same.
        diverged: how many runs diverged in A and B.
        seeds: how many there are.
        time: median ratio of the time per update, B over A; NaN where it is not compared.
        worse: p-value that B is worse; NaN where both are the same, and of one seed alone.
        better: p-value that B is better.
    """

    place: Place
    metric: str
    rates: tuple[float, float]
    scores: tuple[Interval, Interval]
    difference: Interval
    gain: float
    same: bool
    diverged: tuple[int, int]
    seeds: int
    time: float
    worse: float
    better: float

    @property
    def verdict(self) -> str:
        """What the comparison says of the arm."""
        if self.same or math.isnan(self.worse):
            return "same" if self.same else "not tested"
        if min(self.worse, self.better) >= stats.ALPHA:
            return "no difference shown"
        return WORSE if self.worse < self.better else "better"


@dataclass(frozen=True)
class Comparison:
    """What two folders have in common, and what not.

    Attributes:
        heading: where A and B are from, and in what their environments differ.
        rows: the arms that are compared.
        apart: what is not compared, and why.
        lost: those of them that A has and B has not.
        diverging: p-value that more runs diverge in B, over all arms together.
    """

    heading: list[str]
    rows: list[Row]
    apart: list[str]
    lost: list[str]
    diverging: float


def compare(a: Store, b: Store, profile: str | None) -> Comparison:
    """Compare the test runs of B with those of A, arm by arm and seed by seed.

    Args:
        a: records to compare with.
        b: records that may be better or worse.
        profile: whose records count; None where both hold one and the same.

    Returns:
        The comparison.

    Raises:
        InputError: no records or test runs, several profiles and none chosen, other profiles, or nothing in common.
    """
    tests = [_test(store, profile) for store in (a, b)]
    profiles = [str(test["profile"].iloc[0]) for test in tests]
    if len(set(profiles)) > 1:
        raise InputError(f"profiles must be the same: {a.folder} holds {profiles[0]}, {b.folder} holds {profiles[1]}")
    pairs, apart, lost = _matched(*map(_arms, tests))
    if not pairs:
        raise InputError(f"{a.folder} and {b.folder} must have an arm in common; {'; '.join(apart)}")
    names = ["; ".join([f"{store.folder}, {profiles[0]}", *store.omissions()]) for store in (a, b)]
    heading, timed = _heading(names, tests)
    rows = [_row(place, *pair, timed=timed) for place, pair in pairs.items()]
    worse, better = (stats.holm([getattr(row, side) for row in rows]) for side in ("worse", "better"))
    rows = [row._replace(worse=p, better=q) for row, p, q in zip(rows, worse, better, strict=True)]
    return Comparison(heading, rows, apart, lost, diverges_more([(row.seeds, *row.diverged) for row in rows]))


def _test(store: Store, profile: str | None) -> pd.DataFrame:
    records = of_profile(store, profile)
    try:
        return at_best_rate(records)
    except InputError as error:
        raise InputError(f"{store.folder}: {error}") from None


def _arms(test: pd.DataFrame) -> dict[Place, pd.DataFrame]:
    """Split test records by arm: a row per seed, with its score."""
    scores = stats.scores(test)
    arms: Any = test.set_index("index").groupby(["name", "rule_name", "space"])
    return {place: arm.assign(score=scores[place]).dropna(subset="score") for place, arm in arms}


def _matched(
    a: Mapping[Place, pd.DataFrame], b: Mapping[Place, pd.DataFrame]
) -> tuple[dict[Place, Pair], list[str], list[str]]:
    """Find the arms that both have, over the seeds that both have; tell what is left out, and what of it B lacks."""
    pairs: dict[Place, Pair] = {}
    apart: dict[tuple[str, str], list[Place]] = defaultdict(list)  # by what it is, and who alone has it
    places = sorted({**a, **b}, key=lambda place: order(*place))
    for place in places:
        if place not in a or place not in b:
            apart["", "A" if place in a else "B"].append(place)
        elif unlike := _unlike(_settings(a[place]), _settings(b[place])):
            apart[unlike, ""].append(place)
        else:
            seeds = a[place].index.intersection(b[place].index)
            if len(seeds):
                pairs[place] = a[place].loc[seeds], b[place].loc[seeds]
            for side, arms in (("A", a), ("B", b)):
                if len(more := arms[place].index.difference(seeds)):
                    apart[f"seed{'s' * (len(more) > 1)} {', '.join(map(str, more))} ", side].append(place)
    lines = [
        (side, f"{what}{side and f'only in {side}'}: {_listed(each, places)}") for (what, side), each in apart.items()
    ]
    return pairs, [line for _, line in lines], [line for side, line in lines if side == "A"]


def _settings(arm: pd.DataFrame) -> dict[str, Any]:
    """Collect what two runs must share to be the same experiment, defaults left out."""
    record = arm.iloc[0]
    run = json.loads(record["specification"])
    entries: list[tuple[str, Any]] = [("task", TaskEntry), ("space", SpaceEntry), ("rule", Rule)]
    written = [(kind, json.loads(outcome(schema.model_construct(**run.get(kind, {}))))) for kind, schema in entries]
    return {
        **{key: record[key] for key in ("metric", "higher_is_better", "target", "updates")},
        **{f"digest of {name}": digest for name, digest in json.loads(record["data"]).items()},
        **{key: run.get(key) for key in ("study", "evaluations", "test_at", "max_norm")},
        **{f"{key} of the {kind}": value for kind, entry in written for key, value in entry.items()},
    }


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    return "; ".join(f"{key} {a.get(key, 'default')} in A, {b.get(key, 'default')} in B" for key in keys)


def _row(place: Place, a: pd.DataFrame, b: pd.DataFrame, *, timed: bool) -> Row:
    sign = 1 if a["higher_is_better"].iloc[0] else -1
    seeded = seed("compare", *place)
    scores = [
        stats.interval(each["score"], np.random.default_rng(seeded), stats.interquartile_mean).scaled(sign)
        for each in (a, b)
    ]
    mean = stats.interval(stats.differences(b["score"], a["score"]), np.random.default_rng(seeded))
    gain = Interval(*(round(each, 12) for each in mean))  # metrics are shares that floats round: differences cancel
    before, after = a["score"].to_numpy(float), b["score"].to_numpy(float)
    same = bool((before == after).all())
    rates = float(a["lr"].iloc[0]), float(b["lr"].iloc[0])
    retuned = rates[0] != rates[1]
    return Row(
        place=place,
        metric=str(a["metric"].iloc[0]),
        rates=rates,
        scores=(scores[0], scores[1]),
        difference=gain.scaled(sign),
        gain=gain.estimate,
        same=same,
        diverged=(int(np.isinf(before).sum()), int(np.isinf(after).sum())),
        seeds=len(a),
        time=float((_seconds(b) / _seconds(a)).median()) if timed and _made(a) == _made(b) else math.nan,
        worse=math.nan if same else fell(before, after, retuned=retuned),
        better=math.nan if same else fell(after, before, retuned=retuned),
    )


def _seconds(arm: pd.DataFrame) -> pd.Series:
    """Compute the time per update of the runs that finished, evaluations apart."""
    finished = arm[(arm["status"] == "finished") & (arm["curve_seconds"].map(len) > 0)]
    return finished["curve_seconds"].map(lambda curve: float(curve[-1])) / finished["updates"]


def _made(arm: pd.DataFrame) -> set[tuple[Any, Any]]:
    """Tell what computed the recurrence of an arm, and in stacks of how many runs: times depend on it."""
    stacks = arm.get("stack", pd.Series(1, arm.index)).fillna(1)
    return set(
        zip(arm["environment"].map(lambda text: json.loads(text).get("recurrence", "torch")), stacks, strict=True)
    )


def _heading(names: Sequence[str], tests: Sequence[pd.DataFrame]) -> tuple[list[str], bool]:
    """Describe both environments and how they differ, and tell whether times may be compared."""
    known = [_environment(test["environment"]) for test in tests]
    lines = [f"{side}: {name}; {_written(each)}" for side, name, each in zip("AB", names, known, strict=True)]
    differing = [
        f"{key} ({'; '.join(' or '.join(each.get(key, [])) or 'not recorded' for each in known)})"
        for key in sorted({**known[0], **known[1]})
        if known[0].get(key) != known[1].get(key)
    ]
    lines.append(f"They differ in {', '.join(differing)}." if differing else "Their environments are alike.")
    unlike = [key for key in MACHINE if known[0].get(key) != known[1].get(key) or len(known[0].get(key, [])) != 1]
    if unlike:
        lines.append(f"Times are not compared, for the environments are not known to be alike in {', '.join(unlike)}.")
    return lines, not unlike


def _environment(texts: pd.Series) -> dict[str, list[str]]:
    """Collect what the records say of where they were made: the values of each key."""
    values: dict[str, set[str]] = defaultdict(set)
    for text in texts.unique():
        for key, value in json.loads(text).items():
            values[key].add(str(value)[:12] if key == "commit" else str(value))
    return {key: sorted(each) for key, each in sorted(values.items())}


def _written(environment: Mapping[str, Sequence[str]]) -> str:
    entries = [f"{key} {' or '.join(values)}" for key, values in environment.items() if list(values) != [""]]
    return ", ".join(entries) or "not recorded"


def _listed(places: Sequence[Place], everything: Sequence[Place]) -> str:
    """Write places, a task at a time."""
    parts = []
    for task in dict.fromkeys(place[0] for place in places):
        own, every = ([place[1:] for place in each if place[0] == task] for each in (places, everything))
        arms = f"all {len(own)} arms" if own == every else ", ".join(f"{rule} in {space} space" for rule, space in own)
        parts.append(f"{task} ({arms})")
    return ", ".join(parts)
