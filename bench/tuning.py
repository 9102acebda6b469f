"""Choose the learning rate of each arm by validation data alone; try one more where the best is at an edge."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from bench.runs import Choice, Place, Run


def choose(records: pd.DataFrame) -> dict[Place, Choice]:
    """Find the rate with the best mean validation metric over tuning seeds; a rate that diverged once ranks worst.

    Args:
        records: records of one profile; those of tests do not count.

    Returns:
        The choice per task, space and rule; the smaller rate wins a tie.
    """
    tuning = records[records["role"] == "tuning"]
    choices: dict[Place, Choice] = {}
    for (task, space, rule), arm in tuning.groupby(["name", "space", "rule_name"], sort=True):
        sign = 1.0 if arm["higher_is_better"].iloc[0] else -1.0
        scores = {float(str(lr)): _score(runs, sign) for lr, runs in arm.groupby("lr", sort=True)}
        best = max(scores, key=scores.__getitem__)
        grown = arm.loc[arm["grown"] > 0, "lr"].nunique()
        choices[str(task), str(space), str(rule)] = Choice(best, best in {min(scores), max(scores)}, grown)
    return choices


def _score(runs: pd.DataFrame, sign: float) -> float:
    finished = (runs["status"] == "finished").all()
    return sign * float(runs["validation"].mean()) if finished else -math.inf


def grow(runs: Sequence[Run], records: pd.DataFrame, growth: int) -> list[Run]:
    """List the runs at one rate more for every arm whose best rate lies at the edge of those that it tried.

    Args:
        runs: the tuning runs so far.
        records: their records.
        growth: how many rates an arm may try beyond its grid.

    Returns:
        Runs, for the same seeds; empty where no arm has its best rate at an edge, or all have grown enough.
    """
    choices = choose(records)
    more = []
    for place, choice in choices.items():
        arm = [run for run in runs if run.place == place]
        rates = sorted({run.lr for run in arm})
        if choice.edge and choice.grown < growth and len(rates) > 1:
            update = {"lr": beyond(rates, choice.rate), "grown": choice.grown + 1}
            more += [run.model_copy(update=update) for run in arm if run.lr == choice.rate]
    return more


def beyond(rates: Sequence[float], edge: float) -> float:
    """Continue a grid by one step: as far from its edge as the edge from its neighbour, on a log scale.

    Args:
        rates: the grid, ascending, two rates at least.
        edge: its first or its last rate.

    Returns:
        The next rate, to three digits.

    Example:
        >>> beyond([0.01, 0.03, 0.1], 0.1), beyond([0.01, 0.03, 0.1], 0.01)
        (0.333, 0.00333)
    """
    neighbour = rates[1] if edge == rates[0] else rates[-2]
    return float(f"{edge * edge / neighbour:.3g}")
