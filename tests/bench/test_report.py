"""Choice of rates and the result table, on planted records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.convergence import to_target
from bench.report import _at_best_rate, sweep, table, write
from bench.runs import RECORD_VERSION
from bench.store import Store


def record(space: str, role: str, index: int, lr: float, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "name": "digits",
        "space": space,
        "rule_name": "sgd",
        "tuned_task": "digits",
        "tuned_space": space,
        "edge": False,
        "target": 60.0,
        "batch": 10,
        "curve_update": [5, 10],
        "curve_seconds": [0.5, 1.5],
        "curve_validation": [55.0, value],
        "grown": 0,
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


def test_the_table_counts_seeds_divergence_and_wins() -> None:
    frame = planted()
    weight, path = table(_at_best_rate(frame))
    assert (weight.space, path.space) == ("weight", "path")
    assert (weight.seeds, weight.diverged, weight.mean, weight.worst, weight.best) == (3, 1, 61.5, 61.0, 62.0)
    assert (path.seeds, path.diverged, path.mean, path.worst, path.best) == (3, 0, 181 / 3, 50.0, 71.0)
    assert (weight.wins, path.wins) == ("", "2 of 3")
    assert (weight.loss, path.loss) == (pytest.approx(0.615), pytest.approx(1.81 / 3))
    assert not weight.edge
    frame["edge"] = frame["space"] == "path"
    assert [row.edge for row in table(_at_best_rate(frame))] == [False, True]


def test_arms_that_take_their_rates_from_others_are_reported_at_those() -> None:
    frame = planted()
    other = frame[frame["role"] == "test"].assign(name="rescaled")
    assert set(_at_best_rate(pd.concat([frame, other])).groupby("name").size()) == {6}


def test_a_report_where_everything_diverged_says_so(tmp_path: Path) -> None:
    rows = planted()
    rows = rows.assign(status="diverged", test=math.nan, validation=math.nan, curve_train_loss=[[]] * len(rows))
    rows = rows.assign(version=RECORD_VERSION, key=rows.index.astype(str), profile="embedded", suite="planted")
    rows = rows.assign(specification='{"test_at": "end"}', environment="{}", reason="the loss is nan")
    rows.loc[rows["role"] == "test", "lr"] = 0.1
    (tmp_path / "records").mkdir()
    rows.to_parquet(tmp_path / "records" / "all.parquet")
    write(Store(tmp_path), None)
    text = (tmp_path / "report.md").read_text()
    assert "nan (3 diverged)" in text
    assert "the loss is nan" in text
    assert "![" not in text


def test_the_sweep_shows_every_rate_and_what_diverged() -> None:
    rows = sweep(planted())
    assert [row[2:4] for row in rows] == [
        [space, rate] for space in ("weight", "path") for rate in ("0.1", "0.2", "0.4")
    ]
    assert rows[0][4:] == ["50.5", "0.505", "0"]
    assert rows[2][4:] == ["nan", "nan", "2"]


def test_time_to_target_keeps_misses_as_infinite() -> None:
    """Weight space: 61 and 62 reach 60 at update 10, one diverged; path space: 71 and 60 reach it, 50 does not."""
    frame = planted()
    rows = table(_at_best_rate(frame))
    assert [row.target for row in rows] == ["2 of 3: 10 updates, 100 sequences, 1.5 s"] * 2
    frame["target"] = 65.0
    assert [row.target for row in table(_at_best_rate(frame))] == ["0 of 3", "1 of 3"]
    frame["target"], frame["higher_is_better"] = 56.0, False
    assert to_target(frame[frame["role"] == "test"]) == "6 of 7: 5 updates, 50 sequences, 0.5 s"
    assert to_target(frame.assign(curve_seconds=[[]] * len(frame))).endswith("5 updates, 50 sequences")
