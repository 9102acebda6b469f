"""Cells of the tables of a report: texts, and the numbers to sort them by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.stats import Interval
from bench.summary import BASE, Row

RESULTS = ["rule", "space", "test metric", f"gain over {BASE}", f"beats {BASE}", "p", "p (Holm)"]
RESULTS += ["best rate", "diverged", "to target (median)", "training loss"]
SWEEP = ["task", "rule", "space", "rate", "validation metric", "training loss", "seeds", "diverged"]
DIVERGED = ["task", "rule", "space", "rate", "role", "runs", "first reason"]
PUBLISHED = ["task", "published", "value", "ours, best arm", "source", "protocol"]
THEOREMS = ["statement", "networks", "worst error", "bound", "verdict"]
MOST_ROWS = 1_000
STACKS = ["steps", "units", "batch", "replicas", "way", "sequences per second", "times nn.RNN", "of one large product"]
TIMINGS = ["network", "rule", "space", "sequences per second", "extra time"]


class Cell(NamedTuple):
    """What a table shows in one place.

    Attributes:
        text: the text; the number that it begins with decides where it stands in a sorted column.
        beside: an interval, or a remark.
        value: the number to sort by, as JavaScript writes it, where the text does not begin with it.
    """

    text: str
    beside: str = ""
    value: str | None = None


class Line(NamedTuple):
    """A line of a table: an arm, and what follows its name."""

    rule: str
    space: str
    cells: list[Cell]


class Section(NamedTuple):
    """The table of a task."""

    task: str
    about: str
    lines: list[Line]


def number(value: float, digits: int = 4, sign: str = "", infinite: str = "diverged") -> Cell:
    """Write a number.

    Args:
        value: the number; nothing is written for NaN.
        digits: significant digits.
        sign: ``"+"`` to write that, too.
        infinite: what to write for an infinite one.

    Returns:
        The cell.

    Example:
        >>> number(0.123456).text, number(-math.inf).text, number(math.nan).text
        ('0.1235', 'diverged', '')
    """
    if math.isnan(value):
        return Cell("")
    if math.isinf(value):
        minus = "-" if value < 0 else ""
        return Cell(infinite if infinite == "diverged" else minus + infinite, value=f"{minus}Infinity")
    return Cell(f"{value:{sign}.{digits}g}" if value else "0")


def _interval(interval: Interval, digits: int = 4, sign: str = "", infinite: str = "diverged") -> Cell:
    estimate = number(interval.estimate, digits, sign, infinite)
    low, high = (number(each, 3, sign, infinite) for each in interval[1:])
    return estimate._replace(beside=f"[{low.text}, {high.text}]" if low.text and high.text else "")


def sections(rows: Sequence[Row], test: pd.DataFrame) -> list[Section]:
    """Make a table per task.

    Args:
        rows: what :func:`bench.summary.table` makes of test records.
        test: those.

    Returns:
        The tables.
    """
    first = test.groupby("name")[["metric", "higher_is_better", "target", "updates"]].first()
    result = []
    for task, about in first.to_dict("index").items():
        direction = "higher" if about["higher_is_better"] else "lower"
        text = f"{about['metric']}, {direction} is better, target {about['target']:g}; {about['updates']} updates"
        lines = [Line(row.rule, row.space, _cells(row)) for row in rows if row.task == task]
        result.append(Section(str(task), text, lines))
    return result


def _cells(row: Row) -> list[Cell]:
    remarks = [f"grown {row.grown}"] * bool(row.grown) + ["edge"] * row.edge
    better = _interval(Interval(*(100 * each for each in row.better)), digits=3)
    gain = [
        _interval(row.gain, 3, "+", "\N{INFINITY}"),
        better._replace(text=f"{better.text} %"),
        number(row.p, digits=2),
        number(row.adjusted, digits=2),
    ]
    return [
        _interval(row.score),
        *(gain if row.pairs else [Cell("")] * len(gain)),
        number(row.rate)._replace(beside=", ".join(remarks)),
        number(row.diverged)._replace(beside=f"of {row.seeds}"),
        Cell(row.target),
        number(row.loss, digits=3),
    ]


def sweep_cells(summary: pd.DataFrame) -> list[list[Cell]]:
    """Make the table of all learning rates, of what :func:`bench.summary.sweep` returns; its first rows, if long."""
    return [
        [
            *(Cell(str(each)) for each in (row["name"], row["rule_name"], row["space"])),
            number(row["lr"])._replace(beside="chosen" if row["best"] else ""),
            *(number(row[each]) for each in ("validation", "loss", "runs", "diverged")),
        ]
        for row in summary.head(MOST_ROWS).to_dict("records")
    ]


def diverged_cells(records: pd.DataFrame) -> list[list[Cell]]:
    """Make the table of runs that diverged: a row per arm, rate and role."""
    keys = ["name", "rule_name", "space", "lr", "role"]
    result = []
    for (task, rule, space, _, role), runs in records[records["status"] == "diverged"].groupby(keys):
        place = [Cell(str(task)), Cell(str(rule)), Cell(str(space)), number(runs["lr"].iloc[0]), Cell(str(role))]
        result.append([*place, number(len(runs)), Cell(str(runs["reason"].iloc[0]))])
    return result


def published_cells(rows: Sequence[Row], test: pd.DataFrame, published: Mapping[str, Any]) -> list[list[Cell]]:
    """Make the table of numbers from the literature, each beside the best of our arms.

    Args:
        rows: what :func:`bench.summary.table` makes of test records.
        test: those.
        published: entries of the suite files by the names of tasks.

    Returns:
        The rows.
    """
    higher = test.groupby("name")["higher_is_better"].first()
    result = []
    for task, entries in published.items():
        own = [row for row in rows if row.task == task]
        best = (max if higher[task] else min)(own, key=lambda row: row.score.estimate)
        ours = _interval(best.score)
        ours = ours._replace(beside=f"{ours.beside} {best.rule} in {best.space} space".strip())
        for entry in entries:
            source = Cell(entry["source"]), Cell(entry.get("protocol", ""))
            result.append([Cell(task), Cell(entry["method"]), number(entry["value"]), ours, *source])
    return result


def theorem_cells(findings: pd.DataFrame) -> list[list[Cell]]:
    """Make the table of what ``python -m bench theory`` found."""
    return [
        [
            Cell(row["text"]),
            number(row["networks"]),
            number(row["worst"], digits=2),
            number(row["bound"], digits=2),
            Cell("holds" if row["holds"] else "violated"),
        ]
        for row in findings.to_dict("records")
    ]


def timing_cells(timings: pd.DataFrame) -> list[list[Cell]]:
    """Make the table of what ``python -m bench throughput`` measured."""
    result = []
    for row in timings.to_dict("records"):
        extra = number(100 * row["extra"], digits=2, sign="+")
        names = [Cell(row["network"]), Cell(row["rule"]), Cell(row["space"])]
        result.append([*names, number(row["samples"]), extra._replace(text=f"{extra.text} %")])
    return result


def stack_cells(rows: pd.DataFrame) -> list[list[Cell]]:
    """Make the table of what ``python -m bench stacks`` measured."""
    result = []
    for row in rows.dropna(subset="samples").to_dict("records"):
        sizes = [number(row[name]) for name in ("steps", "hidden", "batch", "replicas")]
        speed = Cell("") if math.isnan(row["speed"]) else number(row["speed"])
        share = number(100 * row["samples"] / row["roof"], digits=2)
        result.append([*sizes, Cell(row["way"]), number(row["samples"]), speed, share._replace(text=f"{share.text} %")])
    return result
