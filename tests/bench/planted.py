"""Records that nobody trained, with outcomes that a test chooses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.runs import METHOD_VERSION, RECORD_VERSION

Outcome = Callable[[str, str, str, int, float], float]
"""Metric of a run by task, rule, space, seed and rate; NaN: it diverged."""


def record(
    task: str, rule: str, space: str, role: str, index: int, lr: float, value: float, **changes: Any
) -> dict[str, Any]:
    specification = {"task": {"task": task, "rescale": 0.0}, "test_at": "end"}
    return {
        "version": RECORD_VERSION,
        "method": METHOD_VERSION,
        "data": "{}",
        "key": f"{task}-{rule}-{space}-{role}-{index}-{lr:g}",
        "suite": "planted",
        "profile": "embedded",
        "study": "planted",
        "name": task,
        "rule_name": rule,
        "space": space,
        "tuned_task": task,
        "tuned_space": space,
        "edge": False,
        "grown": 0,
        "model": "relu",
        "lr": lr,
        "role": role,
        "index": index,
        "updates": 10,
        "batch": 10,
        "specification": json.dumps(specification),
        "status": "finished" if math.isfinite(value) else "diverged",
        "reason": "" if math.isfinite(value) else "the training loss is nan at update 7",
        "metric": "accuracy [%]",
        "higher_is_better": True,
        "target": 60.0,
        "validation": value,
        "test": math.nan if role == "tuning" else value,
        "curve_update": [5.0, 10.0] if math.isfinite(value) else [5.0],
        "curve_train_loss": [1.0, 0.5] if math.isfinite(value) else [1.0],
        "curve_validation": [value - 5, value] if math.isfinite(value) else [50.0],
        "curve_seconds": [0.5, 1.5] if math.isfinite(value) else [0.5],
        "seconds": 2.0,
        "environment": json.dumps({"commit": "c0ffee", "cpu": "abacus"}),
        **changes,
    }


def study(
    outcome: Outcome,
    tasks: Sequence[str] = ("digits", "reber"),
    rules: Sequence[str] = ("momentum",),
    spaces: Sequence[str] = ("weight", "path"),
    seeds: int = 6,
    **changes: Any,
) -> pd.DataFrame:
    """Two rates for tuning, of which the smaller is better; test runs at that."""
    rows = []
    better, worse = (70.0, 65.0) if changes.get("higher_is_better", True) else (65.0, 70.0)
    for task in tasks:
        for rule in rules:
            for space in spaces:
                for index in range(2):
                    rows.append(record(task, rule, space, "tuning", index, 0.1, better, **changes))
                    rows.append(record(task, rule, space, "tuning", index, 0.2, worse, **changes))
                for index in range(seeds):
                    value = outcome(task, rule, space, index, 0.1)
                    rows.append(record(task, rule, space, "test", index, 0.1, value, **changes))
    return pd.DataFrame(rows)


def stored(root: Path, frame: pd.DataFrame, suite: str = "planted") -> Path:
    """Write records as a folder of results."""
    folder = root / suite
    (folder / "records").mkdir(parents=True)
    frame.assign(suite=suite).to_parquet(folder / "records" / "all.parquet", index=False)
    return folder
