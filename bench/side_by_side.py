"""Comparisons as the terminal and a pull request show them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.text import Text

from bench.compare import DIVERGING, WORSE, Comparison, Row
from bench.errors import CheckFailedError, InputError
from bench.stats import Interval
from bench.tables import console, markdown, plain_table

_STYLES = {WORSE: "bold red", "better": "green", "no difference shown": "", "not tested": "", "same": "dim"}
_COLUMNS = ("rule", "space", "best rate", "A", "B", "B - A", "p", "diverged", "time", "verdict")
_LEGEND = (
    "A, B: interquartile mean of the test metric over the seeds that both have, with its 95 % interval. B - A: mean "
    "difference by seed, likewise. p: that chance explains it, one-sided, corrected for all arms that are not the "
    "same; where the best rate changed, B may lose the spread of a seed, as tuning leaves that to chance. Best rate, "
    "runs that diverged: A\N{RIGHTWARDS ARROW}B where they differ. Time: per update, B over A, median over seeds, as "
    "the runs shared the machine."
)


def show(comparison: Comparison) -> None:
    """Print a comparison: where A and B are from, a table per task, what is left out, and what is worse."""
    out = console()
    for line in comparison.heading:
        out.print(line, markup=False, soft_wrap=True)
    columns, tables = _tables(comparison.rows)
    widths = [max(len(cells[at]) for rows in tables.values() for cells in rows) for at in range(len(columns))]
    for title, rows in tables.items():
        table = plain_table(*columns)
        if sum(widths) + 2 * len(widths) <= out.width:  # else the columns of a table shrink as they can
            for column, width in zip(table.columns, widths, strict=True):
                column.min_width = width
        for cells in rows:
            table.add_row(*map(Text, cells[:-1]), Text(cells[-1], _STYLES[cells[-1]]))
        out.print(f"\n{title}", style="bold", markup=False)
        out.print(table)
    out.print(_LEGEND, markup=False)
    for line in comparison.apart:
        out.print(f"Left out: {line}", style="yellow", markup=False, soft_wrap=True)
    for line in regressions(comparison):
        out.print(f"Regression: {line}", style="bold red", markup=False, soft_wrap=True)
    out.print(_summary(comparison.rows), style="bold", markup=False)


def write(comparison: Comparison, path: Path) -> None:
    """Write a comparison as Markdown, for a comment on a pull request.

    Args:
        comparison: the comparison.
        path: the file.

    Raises:
        InputError: it cannot be written.
    """
    columns, tables = _tables(comparison.rows)
    lines = ["## Results: B against A", "", *_items([_summary(comparison.rows)])]
    lines += _items(f"Regression: {line}" for line in regressions(comparison))
    for title, rows in tables.items():
        lines += ["", f"### {markdown(title)}", "", _line(columns), _line(["---"] * len(columns))]
        lines += [_line(map(markdown, cells)) for cells in rows]
    lines += ["", markdown(_LEGEND), "", *_items(f"Left out: {line}" for line in comparison.apart)]
    try:
        path.write_text("\n".join([*lines, *_items(comparison.heading), ""]), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the comparison cannot be written: {error.strerror}") from None


def regressions(comparison: Comparison) -> list[str]:
    """Name the arms that are worse in B, by how much, and divergence where there is more of it.

    Args:
        comparison: the comparison.

    Returns:
        A line each.
    """
    worse = [row for row in comparison.rows if row.verdict == WORSE]
    lines = [f"{_arm(row)} by {_interval(row.difference, '+')}, {row.metric}" for row in worse]
    if comparison.diverging < DIVERGING:
        more = [row for row in comparison.rows if row.diverged[1] > row.diverged[0]]
        arms = ", ".join(f"{_arm(row)} {_diverged(row)}" for row in more)
        lines.append(f"more runs diverge than by chance (p {comparison.diverging:.2g}): {arms}")
    return lines


def require_no_regression(comparison: Comparison) -> None:
    """Refuse a comparison where B is worse, or lacks arms or seeds of A, which may be those that are worse.

    Args:
        comparison: the comparison.

    Raises:
        CheckFailedError: it is; the message names the arms, and by how much.
    """
    if lines := regressions(comparison):
        raise CheckFailedError(f"B is worse: {'; '.join(lines)}")
    if comparison.lost:
        raise CheckFailedError(f"B lacks what A has: {'; '.join(comparison.lost)}")


def _tables(rows: Sequence[Row]) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Make a table per task, without columns that are empty in all."""
    written = [(_title(row, rows), _cells(row, rows)) for row in rows]
    kept = [at for at in range(len(_COLUMNS)) if any(cells[at] for _, cells in written)]
    tables: dict[str, list[list[str]]] = defaultdict(list)
    for title, cells in written:
        tables[title].append([cells[at] for at in kept])
    return [_COLUMNS[at] for at in kept], tables


def _title(row: Row, rows: Sequence[Row]) -> str:
    return f"{row.place[0]}: {row.metric}, {_most(row, rows)} seed{'s' * (_most(row, rows) > 1)}"


def _most(row: Row, rows: Sequence[Row]) -> int:
    """Count the seeds of the arm of the task that has most."""
    return max(each.seeds for each in rows if each.place[0] == row.place[0])


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    word = "" if row.same else " better" if row.gain > 0 else " worse" if row.gain < 0 else ""
    p, plain = min(row.worse, row.better), not any(row.diverged) and row.seeds == _most(row, rows)
    return [
        *row.place[1:],
        _both(row.rates),
        *map(_interval, row.scores),
        "0" if row.same else _interval(row.difference, "+") + word,
        "" if math.isnan(p) else f"{p:.2g}",
        "" if plain else _diverged(row),
        "" if math.isnan(row.time) else f"{row.time:.2f}",
        row.verdict,
    ]


def _summary(rows: Sequence[Row]) -> str:
    verdicts = [row.verdict for row in rows]
    counts = [f"{verdicts.count(each)} {each}" for each in _STYLES if each in verdicts]
    return f"{len(rows)} arm{'s' * (len(rows) > 1)}: {', '.join(counts)}"


def _interval(interval: Interval, sign: str = "") -> str:
    digits, ends = (2, 2) if sign else (4, 3) if abs(interval.estimate) >= 1 else (3, 3)
    estimate = f"{interval.estimate + 0.0:{sign}.{digits}g}"  # which turns -0 into 0
    return estimate if math.isnan(interval.low) else f"{estimate} [{interval.low:.{ends}g}, {interval.high:.{ends}g}]"


def _both(values: tuple[float, float]) -> str:
    a, b = (f"{value:g}" for value in values)
    return a if a == b else f"{a}\N{RIGHTWARDS ARROW}{b}"


def _diverged(row: Row) -> str:
    return f"{_both(row.diverged)} of {row.seeds}"


def _arm(row: Row) -> str:
    task, rule, space = row.place
    return f"{task}, {rule} in {space} space"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _items(lines: Iterable[str]) -> list[str]:
    return [f"- {markdown(line)}" for line in lines]
