"""What claims are judged by: test records, and their paired differences in units that are independent of each other.

The units are seeds of kinds of tasks. Rules, and tasks of one kind, share the random numbers of a seed, so what they do
on one seed is averaged first.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import stats
from bench.errors import InputError
from bench.stats import Floats
from bench.store import Store
from bench.summary import at_best_rate, of_profile


@dataclass(frozen=True)
class Evidence:
    """Where the records are that claims are judged by.

    Attributes:
        root: a folder of results, with a folder per suite.
        profile: whose records count, where a folder holds several.
        tests: by suite, its test records at the best rates, as far as they are read.
    """

    root: Path
    profile: str | None
    tests: dict[str, pd.DataFrame] = field(default_factory=dict)

    def test(self, suites: Iterable[str]) -> pd.DataFrame:
        """Read the test records, at the best rates, of the first of some suites that has any.

        Args:
            suites: their names.

        Returns:
            The records.

        Raises:
            InputError: none of them has any, or they cannot be read.
        """
        for suite in suites:
            if (self.root / suite / "records").exists():
                if suite not in self.tests:  # which many claims are about
                    self.tests[suite] = at_best_rate(of_profile(Store(self.root / suite), self.profile))
                return self.tests[suite]
        raise InputError(f"not measured: no records of the suite {' or '.join(suites)}")


Columns = Callable[[str, str], tuple[Any, Any]]


def units_of(
    scores: pd.DataFrame, tasks: Iterable[str], rules: Iterable[str] | None, columns: Columns
) -> dict[str, pd.DataFrame]:
    """Take differences seed by seed.

    Args:
        scores: what :func:`bench.stats.scores` returns.
        tasks: patterns of names of tasks that count.
        rules: rules that count; all, if it is None.
        columns: the two columns to compare, by the names of task and rule.

    Returns:
        By task a frame of seeds x rules, of the seeds that all rules have; without tasks that lack a column.
    """
    units = {}
    for task in scores.columns.unique("name"):
        if not any(fnmatch.fnmatch(task, pattern) for pattern in tasks):
            continue
        pairs = {rule: columns(task, rule) for rule in rules or scores.columns.unique("rule_name")}
        pairs = {rule: (a, b) for rule, (a, b) in pairs.items() if a != b and {a, b} <= set(scores.columns)}
        whole = scores[[column for pair in pairs.values() for column in pair]].dropna()
        if pairs:
            series = whole.to_dict("series")
            differences = {rule: stats.differences(series[a], series[b]) for rule, (a, b) in pairs.items()}
            units[str(task)] = pd.DataFrame(differences, index=whole.index)
    return units


def pooled(values: Mapping[str, pd.Series[float]], test: pd.DataFrame) -> Floats:
    """Average over the tasks of one kind, seed by seed, and put the kinds one after another.

    Args:
        values: by task, a value per seed.
        test: the test records, whose specifications say what kind of task each is.

    Returns:
        A value per unit.
    """
    texts = test.groupby("name")["specification"].first()
    kinds: dict[str, list[pd.Series[float]]] = {}
    for task, own in values.items():
        kinds.setdefault(json.loads(texts[task])["task"]["task"], []).append(own)
    with np.errstate(invalid="ignore"):  # of infinities of either sign: NaN, which the caller refuses
        return np.concatenate([pd.concat(each, axis=1).mean(axis=1).to_numpy(float) for each in kinds.values()])


def lacking(units: dict[str, pd.Series], seeds: int) -> str:
    """Say what a verdict lacks.

    Args:
        units: by task, a value per seed.
        seeds: so many are needed.

    Returns:
        A line; empty where nothing is lacking.
    """
    if not units:
        return "not measured: no task has both arms"
    few = {task: len(each) for task, each in units.items() if len(each) < seeds}
    if few:
        text = ", ".join(f"{count} on {task}" for task, count in few.items())
        return f"not enough seeds: {text}, where {seeds} are needed"
    return ""


def shape(units: dict[str, pd.DataFrame]) -> str:
    """Say how many tasks there are, and which rules."""
    rules = dict.fromkeys(rule for pairs in units.values() for rule in pairs.columns)
    return f"{len(units)} task{'s' * (len(units) > 1)}, {', '.join(rules)}"
