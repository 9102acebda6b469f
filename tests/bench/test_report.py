"""Choice of rates and the result table, on planted records."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bench.report import _at_best_rate, sweep, table
from bench.select import best_rates


def record(space: str, role: str, index: int, lr: float, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "name": "digits",
        "space": space,
        "rule_name": "sgd",
        "role": role,
        "index": index,
        "lr": lr,
        "status": "finished" if math.isfinite(value) else "diverged",
        "metric": "accuracy [%]",
        "higher_is_better": True,
        "validation": value,
        "test": value,
        "curve_train_loss": [2 * value, value / 100],
        **changes,
    }


def planted() -> pd.DataFrame:
    rows = []
    for space, scores in (("weight", (50, 60, math.nan)), ("path", (40, 70, 65))):
        for lr, score in zip((0.1, 0.2, 0.4), scores, strict=True):
            rows += [record(space, "tuning", index, lr, score + index if index else score) for index in range(2)]
    rows += [record("weight", "test", index, 0.2, value) for index, value in enumerate((61.0, 62.0, math.nan))]
    rows += [record("path", "test", index, 0.2, value) for index, value in enumerate((71.0, 60.0, 50.0))]
    rows += [record("path", "test", 0, 0.4, 99.0)]  # at a rate that tuning did not choose
    return pd.DataFrame(rows)


def test_the_best_mean_wins_and_divergence_ranks_worst() -> None:
    frame = planted()
    assert best_rates(frame) == {("digits", "weight", "sgd"): 0.2, ("digits", "path", "sgd"): 0.2}
    frame["higher_is_better"] = False
    assert best_rates(frame) == {("digits", "weight", "sgd"): 0.1, ("digits", "path", "sgd"): 0.1}


def test_the_table_counts_seeds_divergence_and_wins() -> None:
    frame = planted()
    weight, path = table(frame, _at_best_rate(frame))
    assert (weight.space, path.space) == ("weight", "path")
    assert (weight.seeds, weight.diverged, weight.mean, weight.worst, weight.best) == (3, 1, 61.5, 61.0, 62.0)
    assert (path.seeds, path.diverged, path.mean, path.worst, path.best) == (3, 0, 181 / 3, 50.0, 71.0)
    assert (weight.wins, path.wins) == ("", "2 of 3")
    assert (weight.loss, path.loss) == (pytest.approx(0.615), pytest.approx(1.81 / 3))
    assert not weight.edge
    frame["higher_is_better"] = False
    edge = table(frame, frame[(frame["role"] == "test") & (frame["lr"] == 0.4)])[0]
    assert edge.edge


def test_the_sweep_shows_every_rate_and_what_diverged() -> None:
    rows = sweep(planted())
    assert [row[2:4] for row in rows] == [
        [space, rate] for space in ("weight", "path") for rate in ("0.1", "0.2", "0.4")
    ]
    assert rows[0][4:] == ["50.5", "0.505", "0"]
    assert rows[2][4:] == ["nan", "nan", "2"]
