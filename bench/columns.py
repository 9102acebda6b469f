"""The columns of a record, and what is wrong with a table that does not have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from pandas.api import types

_TEXT = (
    *("key", "suite", "profile", "name", "space", "rule_name", "tuned_task", "tuned_space", "study", "role", "model"),
    *("status", "reason", "metric"),
)
_WHOLE = ("method", "index", "updates", "batch", "grown")
_FLAGS = ("edge", "higher_is_better")
_NUMBERS = ("lr", "target", "seconds")
_METRICS = ("validation", "test")
_CURVES = ("curve_update", "curve_train_loss", "curve_validation", "curve_seconds")


def faults(records: pd.DataFrame) -> Iterator[str]:
    """Find what is wrong with records of the current version.

    Args:
        records: a row per run.

    Yields:
        A line per fault, the gravest first.
    """
    kinds: list[tuple[tuple[str, ...], str, Callable[[pd.Series], bool]]] = [
        (_TEXT, "printable text", lambda column: all(map(_is_text, column.unique()))),
        (("environment", "data"), "JSON objects", lambda column: all(map(_is_object, column.unique()))),
        (("specification",), "JSON objects with a task", lambda column: all(map(_has_task, column.unique()))),
        (_WHOLE, "whole numbers", types.is_integer_dtype),
        (_FLAGS, "true or false", types.is_bool_dtype),
        (_NUMBERS, "numbers", lambda column: types.is_numeric_dtype(column) and bool(column.notna().all())),
        (_METRICS, "numbers", lambda column: types.is_numeric_dtype(column) or bool(column.isna().all())),
        (_CURVES, "lists of numbers", lambda column: bool(column.map(_is_curve).all())),
    ]
    for names, kind, holds in kinds:
        for name in names:
            if name not in records:
                yield f"column {name} is missing"
            elif not holds(records[name]):
                yield f"column {name} must hold {kind} in every row"


def contradictions(records: pd.DataFrame) -> Iterator[str]:
    """Find records that cannot be: one run with two outcomes, a run that finished and has no metric.

    Args:
        records: a row per run, with all columns.

    Yields:
        A line per fault.
    """
    again = records[records.duplicated("key", keep=False)]
    outcomes = again.groupby("key")[["status", "validation", "test"]].nunique(dropna=False).max(axis=1)
    for key in outcomes.index[outcomes > 1]:
        yield f"run {key} has two records that disagree"
    lacking = records["validation"].isna() | (records["test"].isna() & (records["role"] == "test"))
    for key in records.loc[lacking & (records["status"] == "finished"), "key"]:
        yield f"run {key} finished, but its record has no metric"


def _is_text(value: object) -> bool:
    """Tell whether a value is a text of one line that is no command to a terminal."""
    return isinstance(value, str) and value.isprintable()


def _is_object(text: object) -> bool:
    return isinstance(_parsed(text), dict)


def _has_task(text: object) -> bool:
    parsed = _parsed(text)
    return isinstance(parsed, dict) and isinstance(parsed.get("task"), dict) and "task" in parsed["task"]


def _parsed(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _is_curve(value: object) -> bool:
    return isinstance(value, np.ndarray) and (value.dtype.kind in "fiu" or not len(value))
