"""Choose the learning rate of each arm from tuning records, by validation data alone."""

from __future__ import annotations

import math

import pandas as pd

from bench.suite import Arm


def best_rates(records: pd.DataFrame) -> dict[Arm, float]:
    """Find the rate with the best mean validation metric over tuning seeds; a rate that diverged once ranks worst.

    Args:
        records: records of one profile.

    Returns:
        Best rate per (task, space, rule); the smaller rate wins a tie.
    """
    tuning = records[records["role"] == "tuning"]
    best: dict[Arm, float] = {}
    for (task, space, rule), arm in tuning.groupby(["name", "space", "rule_name"], sort=True):
        sign = 1.0 if arm["higher_is_better"].iloc[0] else -1.0
        scores = {
            lr: sign * float(arm.loc[arm["lr"] == lr, "validation"].mean())
            if (arm.loc[arm["lr"] == lr, "status"] == "finished").all()
            else -math.inf
            for lr in sorted(set(arm["lr"].astype(float)))
        }
        best[str(task), str(space), str(rule)] = max(scores, key=scores.__getitem__)
    return best
