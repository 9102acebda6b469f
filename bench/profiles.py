"""Profiles over tasks: figures of the share of runs that are good enough, or early enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bench import stats
from bench.convergence import reach
from bench.drawing import POINT, Figure, lines
from bench.seeds import seed


def performance_profile(test: pd.DataFrame) -> Figure:
    """Draw the share of runs whose error is within a factor of the target's: a panel per rule, a line per space.

    Args:
        test: test records of one profile, at the best rates.

    Returns:
        The figure. What counts as error is the metric where lower is better, and what lacks to 100 where it is a
        per cent; tasks with other metrics are left out.
    """
    heading = {
        "name": "performance_profile",
        "title": "Performance profile over tasks",
        "note": "Share of runs, every task of equal weight, whose error is at most so many times the error that "
        "counts as learned; band: 95 % interval. Runs that diverged never count.",
    }
    percent = test["higher_is_better"] & test["metric"].str.endswith("[%]")
    kept = test[percent | ~test["higher_is_better"]]
    error = kept["test"].where(~kept["higher_is_better"], 100 - kept["test"])
    target = kept["target"].where(~kept["higher_is_better"], 100 - kept["target"])
    costs = kept.assign(cost=(error / target).where(kept["status"] == "finished", math.inf))
    bounds = np.logspace(-1.5, 1.5, 41)
    labels = ("test error over target error", "share of runs")
    return _profile(heading, costs, bounds, labels, {"xscale": "log", "ylim": (-0.02, 1.02)})


def target_profile(test: pd.DataFrame) -> Figure:
    """Draw the share of runs that have reached their target by a share of their updates: a panel per rule.

    Args:
        test: test records of one profile, at the best rates.

    Returns:
        The figure.
    """
    heading = {
        "name": "target_profile",
        "title": "Time to target over tasks",
        "note": "Share of runs, every task of equal weight, whose validation metric has met the target by then; band: "
        "95 % interval. Runs that never meet it count as infinite.",
    }
    updates = [reach(record).updates for record in test.to_dict("records")]
    costs = test.assign(cost=np.array(updates) / test["updates"])
    labels = ("share of the updates", "share of runs")
    return _profile(heading, costs, np.linspace(0, 1, 41), labels, {"ylim": (-0.02, 1.02)})


def _profile(
    heading: dict[str, str], costs: pd.DataFrame, bounds: stats.Floats, labels: tuple[str, str], scale: dict[str, Any]
) -> Figure:
    profiles = list(_profiles(heading["name"], costs, bounds))
    frame = pd.concat(profiles, ignore_index=True) if profiles else pd.DataFrame(columns=POINT)
    return lines(heading, frame, lambda _: labels, lambda _: scale, marker="", drawstyle="steps-post")


def _profiles(name: str, costs: pd.DataFrame, bounds: stats.Floats) -> Iterator[pd.DataFrame]:
    """Compute a profile per rule and space, over the tasks that all spaces of the rule have."""
    for rule, group in costs.groupby("rule_name"):
        spaces = [set(arm["name"]) for _, arm in group.groupby("space")]
        shared = set.intersection(*spaces)
        for space, arm in group[group["name"].isin(shared)].groupby("space"):
            generator = np.random.default_rng(seed(name, str(rule), str(space)))
            values = [own["cost"].to_numpy() for _, own in arm.groupby("name")]
            shares = stats.share_within(values, bounds, generator).rename(columns={"bound": "x", "share": "y"})
            yield shares.assign(name=f"{len(shared)} tasks", rule_name=str(rule), space=str(space))
