"""Claims as data, judged from the records alone: supported, refuted or inconclusive, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from bench import stats
from bench.convergence import reach
from bench.errors import InputError
from bench.evidence import Evidence, lacking, pooled, shape, units_of
from bench.findings import FINDINGS, TIMINGS, read_findings
from bench.schema import Strict
from bench.seeds import seed
from bench.stats import Floats, Interval


@dataclass(frozen=True)
class Finding:
    """What the records say of a claim.

    Attributes:
        verdict: supported, refuted or inconclusive.
        numbers: what it rests on, or what is missing.
        by: a line per task, or per network and rule.
    """

    verdict: Literal["supported", "refuted", "inconclusive"]
    numbers: str
    by: tuple[str, ...] = ()


class Holds(Strict):
    """A law of path space, which the theory suite tries on random networks."""

    text: str
    source: str
    rule: Literal["holds"]
    law: str
    suites: tuple[str, ...] = ("theory",)

    @property
    def criterion(self) -> str:
        """What supports it, and what refutes it."""
        return "supported if it held on every random network, refuted if not"

    def judge(self, _: str, evidence: Evidence) -> Finding:
        """Judge the claim."""
        findings = read_findings(evidence.root / FINDINGS, "python -m bench theory")
        own = findings[findings["law"] == self.law]
        if own.empty:
            return Finding("inconclusive", f"not measured: no finding for the law {self.law}")
        found = own.iloc[0]
        numbers = (
            f"worst relative error {found['worst']:.1g} (bound {found['bound']:.1g}), {found['networks']} networks"
        )
        return Finding("supported" if found["holds"] else "refuted", numbers)


class Below(Strict):
    """A training step in a space takes less than a share of time more than in weight space."""

    text: str
    source: str
    rule: Literal["below"]
    space: str
    bound: PositiveFloat
    suites: tuple[str, ...] = ("throughput",)

    @property
    def criterion(self) -> str:
        """What supports it, and what refutes it."""
        bound = f"{100 * self.bound:g} % of extra time"
        return f"supported if the intervals of all networks and rules lie below {bound}, refuted if one lies above"

    def judge(self, name: str, evidence: Evidence) -> Finding:
        """Judge the claim."""
        timings = read_findings(evidence.root / TIMINGS, "python -m bench throughput")
        own = timings[timings["space"] == self.space].to_dict("records")
        if not own:
            return Finding("inconclusive", f"not measured: {self.space} space was not timed")
        costs = {f"{row['network']}, {row['rule']}": _cost(name, row) for row in own}
        by = tuple(f"{place}: {_percent(cost, 1)}" for place, cost in costs.items())
        medians = sorted(cost.estimate for cost in costs.values())
        numbers = f"{100 * medians[0]:.1f} to {100 * medians[-1]:.1f} % of extra time, {len(costs)} medians of ratios"
        if any(cost.low > self.bound for cost in costs.values()):
            return Finding("refuted", numbers, by)
        below = all(cost.high < self.bound for cost in costs.values())
        return Finding("supported" if below else "inconclusive", numbers, by)


class Better(Strict):
    """One space beats another under the same rules, on the same seeds.

    Attributes:
        text: the claim.
        source: who makes it.
        rule: ``"better"``.
        suites: the first of these that has records counts.
        metric: the test metric, or the updates until the target is met.
        space: the space that is said to be better.
        over: than this one.
        rules: rules that count; all, if it is not given.
        tasks: patterns of names of tasks that count.
        least: the smallest probability to win that would be worth having.
        seeds: so many per task are needed for a verdict.
    """

    text: str
    source: str
    rule: Literal["better"]
    suites: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: Literal["test", "updates_to_target"] = "test"
    space: str
    over: str
    rules: tuple[str, ...] | None = None
    tasks: tuple[str, ...] = ("*",)
    least: Annotated[float, Field(gt=0.5, lt=1)] = 0.6
    seeds: PositiveInt = 5

    @property
    def criterion(self) -> str:
        """What supports it, and what refutes it."""
        least = f"{100 * self.least:g} %"
        return (
            f"supported if {self.space} wins at least {least} of the pairs, the interval lies above 50 % and p < "
            f"{stats.ALPHA:.2f}; refuted if the interval lies below {least}"
        )

    def judge(self, name: str, evidence: Evidence) -> Finding:
        """Judge the claim."""
        test = evidence.test(self.suites)
        values = None if self.metric == "test" else -test.apply(lambda record: reach(record).updates, axis=1)
        scores = stats.scores(test, values)
        a, b = self.space, self.over
        units = units_of(scores, self.tasks, self.rules, lambda task, rule: ((task, rule, a), (task, rule, b)))
        wins = {task: pairs.transform(stats.wins).mean(axis=1) for task, pairs in units.items()}
        if lack := lacking(wins, self.seeds):
            return Finding("inconclusive", lack)
        every = pooled(wins, test)
        better, p = stats.probability_better(every), stats.sign_flip(2 * every - 1, _generator(name))
        tasks = [stats.sign_flip(2 * each - 1, _generator(name, task)) for task, each in wins.items()]
        by = tuple(
            f"{task}: {_percent(stats.probability_better(each))}, p = {p:.2g} (Holm)"
            for (task, each), p in zip(wins.items(), stats.holm(tasks), strict=True)
        )
        numbers = f"wins {_percent(better)} of {len(every)} pairs, p = {p:.2g}; {shape(units)}"
        if better.estimate >= self.least and better.low > 0.5 and p < stats.ALPHA:
            return Finding("supported", numbers, by)
        return Finding("refuted" if better.high < self.least else "inconclusive", numbers, by)


class Equal(Strict):
    """The test metric of a space does not depend on the start: on tasks that differ from those they are tuned on in it.

    Attributes:
        text: the claim.
        source: who makes it.
        rule: ``"equal"``.
        suites: the first of these that has records counts.
        space: the space that is said not to care.
        rules: rules that count; all, if it is not given.
        tasks: patterns of names of tasks with the other start.
        margin: the largest mean difference that does not matter, in units of the metric.
        seeds: so many per task are needed for a verdict.
    """

    text: str
    source: str
    rule: Literal["equal"]
    suites: Annotated[tuple[str, ...], Field(min_length=1)]
    space: str
    rules: tuple[str, ...] | None = None
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    margin: PositiveFloat
    seeds: PositiveInt = 5

    @property
    def criterion(self) -> str:
        """What supports it, and what refutes it."""
        return (
            f"supported if the interval of the mean difference lies within {self.margin:g} of zero, in units of the "
            "metric, refuted if it lies beyond"
        )

    def judge(self, name: str, evidence: Evidence) -> Finding:
        """Judge the claim."""
        test = evidence.test(self.suites)
        plain = dict(zip(test["name"], test["tuned_task"], strict=True))
        scores = stats.scores(test)
        space = self.space
        units = units_of(
            scores, self.tasks, self.rules, lambda task, rule: ((task, rule, space), (plain[task], rule, space))
        )
        with np.errstate(invalid="ignore"):
            changes = {task: pairs.mean(axis=1) for task, pairs in units.items()}
        if lack := lacking(changes, self.seeds):
            return Finding("inconclusive", lack)
        every = pooled(changes, test)
        if np.isnan(np.concatenate([every, *changes.values()])).any():  # a mean would pass over the NaN of a task
            return Finding(
                "inconclusive", "no mean change: with one rule the plain start diverged, with another this one"
            )
        change = stats.interval(every, _generator(name))
        by = tuple(f"{task}: {_number(stats.interval(each, _generator(name, task)))}" for task, each in changes.items())
        numbers = f"mean change {_number(change)}, {len(every)} pairs; {shape(units)}"
        if -self.margin < change.low and change.high < self.margin:
            return Finding("supported", numbers, by)
        beyond = change.high < -self.margin or change.low > self.margin
        return Finding("refuted" if beyond else "inconclusive", numbers, by)


Claim = Annotated[Holds | Below | Better | Equal, Field(discriminator="rule")]


class Claims(Strict):
    """The file of claims, by their names."""

    claims: Annotated[dict[str, Claim], Field(min_length=1)]


def judge(claims: Claims, evidence: Evidence, suites: Iterable[str] | None = None) -> dict[str, Finding]:
    """Judge claims.

    Args:
        claims: the claims.
        evidence: the records.
        suites: leave out claims that are about other suites than these; none without.

    Returns:
        A finding per claim. One whose records are missing or cannot be read is inconclusive, and says so.
    """
    findings = {}
    for name, claim in claims.claims.items():
        if suites is None or set(suites) & set(claim.suites):
            try:
                findings[name] = claim.judge(name, evidence)
            except InputError as error:
                findings[name] = Finding("inconclusive", str(error))
    return findings


def _cost(name: str, row: Mapping[Any, Any]) -> Interval:
    ratios: Floats = np.asarray(row["ratios"], dtype=float)
    return stats.interval(ratios - 1, _generator(name, row["network"], row["rule"]), np.median)


def _generator(*names: str) -> np.random.Generator:
    return np.random.default_rng(seed("claims", *names))


def _percent(interval: Interval, digits: int = 0) -> str:
    estimate, low, high = (f"{100 * each:.{digits}f}" for each in interval)
    return f"{estimate} % [{low}, {high}]"


def _number(interval: Interval) -> str:
    return f"{interval.estimate:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"
