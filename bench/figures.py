"""The figures of a report, from summaries of the records."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from bench import stats
from bench.drawing import (
    ARM,
    MOST_LINES,
    POINT,
    Figure,
    Metric,
    Place,
    color_of,
    cross,
    lines,
    marker,
    places_of,
    space_colors,
    within,
)
from bench.summary import Row, names
from bench.svg import Canvas, Panel

_MOST_DOTS = 40
_PAIR = "#9ca3af"

Metrics = dict[str, Metric]


def final_metric(test: pd.DataFrame, rows: Sequence[Row], metrics: Metrics) -> Figure:
    """Draw the test metric: a panel per task; a dot per arm and seed, lines between the arms of a seed.

    Args:
        test: test records of one profile, at the best rates.
        rows: what :func:`bench.summary.table` makes of them.
        metrics: metrics of the tasks.

    Returns:
        The figure.
    """

    def draw(task: str) -> Panel:
        canvas, own = Canvas(task), [row for row in rows if row.task == task]
        finite = test.loc[test["name"] == task, "test"].notna().any()
        canvas.axis.set_yscale(metrics[task].scale if finite else "linear")
        rules = names(own, "rule")
        for group, rule in enumerate(rules):
            panel = test[(test["name"] == task) & (test["rule_name"] == rule)]
            _draw_rule(canvas, panel, [row for row in own if row.rule == rule], group)
        canvas.axis.set_xticks(range(len(rules)), rules)
        canvas.axis.set_xlim(-0.5, len(rules) - 0.5)
        means = "; ".join(f"{row.rule} in {row.space} space {row.score.estimate:.4g}" for row in own)
        return canvas.panel(f"Interquartile means: {means}.", "", f"test {metrics[task].name}")

    heading = {
        "name": "final_metric",
        "title": "Test metric of every arm and seed",
        "note": "Dot: a test seed; line: the same seed in two spaces; bar: interquartile mean with 95 % interval; "
        "cross at the foot: seeds diverged.",
    }
    tasks = names(rows, "task")
    most = max(1, MOST_LINES * len(tasks) // len(rows))
    return Figure(
        **heading, panels=list(map(draw, tasks[:most])), abreast=min(len(tasks), 4), left_out=len(tasks[most:])
    )


def _draw_rule(canvas: Canvas, panel: pd.DataFrame, rows: Sequence[Row], group: int) -> None:
    wide = panel.pivot_table(index="index", columns="space", values="test")
    colors = space_colors(row.space for row in rows)
    width = 0.7 / len(colors)
    places = {space: group + width * (place - (len(colors) - 1) / 2) for place, space in enumerate(colors)}
    if len(wide) <= _MOST_DOTS:
        _draw_seeds(canvas, wide, places, rows[0].rule)
    for row in rows:
        x, color, (estimate, low, high) = places[row.space], colors[row.space], row.score
        if math.isfinite(estimate):
            bar = canvas.axis.hlines(estimate, x - width / 3, x + width / 3, color=color, lw=2, zorder=2)
            canvas.tag(bar, [row.space], row.rule)
        if math.isfinite(low) and math.isfinite(high):
            canvas.tag(canvas.axis.vlines(x, low, high, color=color, lw=1.2, zorder=2), [row.space], row.rule)
        cross(canvas, [x] if row.diverged else [], row.space, row.rule)


def _draw_seeds(canvas: Canvas, wide: pd.DataFrame, places: dict[str, float], rule: str) -> None:
    spaces = [space for space in places if space in wide]
    for left, right in pairwise(spaces):
        pairs = wide[[left, right]].dropna().to_numpy()
        segments = [[(places[left], a), (places[right], b)] for a, b in pairs]
        collection = LineCollection(segments, colors=_PAIR, linewidths=0.6, alpha=0.6, zorder=1)
        canvas.tag(canvas.axis.add_collection(collection), [left, right], rule)
    for space in spaces:
        style: dict[str, Any] = {"color": color_of(space), "marker": marker(space), "s": 14, "zorder": 3}
        canvas.tag(canvas.axis.scatter([places[space]] * len(wide), wide[space], **style), [space], rule)


def learning_curves(test: pd.DataFrame, metrics: Metrics) -> Figure:
    """Draw the validation metric during training: a panel per task and rule, a line per space, a band over seeds.

    Args:
        test: test records of one profile, at the best rates.
        metrics: metrics of the tasks.

    Returns:
        The figure.
    """
    heading = {
        "name": "learning_curves",
        "title": "Learning curves",
        "note": "Line: interquartile mean over test seeds at the best rate, those that diverged ranked worst; band: "
        "smallest to largest.",
    }
    places, left_out = places_of(test)
    arms = within(test, places).groupby(ARM)
    curves = [_named(_curve(arm, metrics[str(place[0])].sign), place) for place, arm in arms]
    return lines(
        heading,
        pd.concat(curves, ignore_index=True),
        lambda task: ("update", f"validation {metrics[task].name}"),
        lambda task: {"yscale": metrics[task].scale},
        left_out=left_out,
    )


def _named(points: pd.DataFrame, place: Sequence[Any]) -> pd.DataFrame:
    return points.assign(name=str(place[0]), rule_name=str(place[1]), space=str(place[2]))


def _curve(arm: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Summarise the validation curves of an arm: a row per evaluation."""
    points = arm[["index", "curve_update", "curve_validation"]].explode(["curve_update", "curve_validation"])
    points = points.dropna().astype(float)
    wide = points.pivot_table(index="curve_update", columns="index", values="curve_validation")
    wide = wide.reindex(columns=arm["index"])
    oriented = (sign * wide).fillna(-math.inf).to_numpy()
    middle = sign * stats.interquartile_mean(oriented) if len(wide) else np.empty(0)
    extremes = {"low": wide.min(axis=1).to_numpy(), "high": wide.max(axis=1).to_numpy()}
    return pd.DataFrame({"x": wide.index.to_numpy(dtype=float), "y": middle, **extremes})


def learning_rates(sweep: pd.DataFrame, metrics: Metrics) -> Figure:
    """Draw the validation metric against the learning rate: a panel per task and rule, a line per space.

    Args:
        sweep: what :func:`bench.summary.sweep` returns.
        metrics: metrics of the tasks.

    Returns:
        The figure.
    """

    def mark(canvas: Canvas, place: Place, space: str, arm: pd.DataFrame) -> None:
        best = arm[arm["best"]]
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": color_of(space), "s": 60}
        canvas.tag(canvas.axis.scatter(best["x"], best["y"], **style), [space], place[1])
        cross(canvas, arm.loc[arm["diverged"] > 0, "x"], space, place[1])

    heading = {
        "name": "learning_rates",
        "title": "Sensitivity to the learning rate",
        "note": "Line: mean validation metric over tuning seeds; band: smallest to largest; ring: the rate that was "
        "chosen; cross at the foot: seeds diverged.",
    }
    whole = sweep["validation"].where(sweep["diverged"] == 0, math.nan)
    return lines(
        heading,
        sweep.assign(x=sweep["lr"], y=whole),
        lambda task: ("learning rate", f"validation {metrics[task].name}"),
        lambda task: {"xscale": "log", "yscale": metrics[task].scale},
        mark,
    )


def expected_best(sweep: pd.DataFrame, metrics: Metrics) -> Figure:
    """Draw the validation metric that is to be expected of the best of k learning rates, drawn at random.

    Args:
        sweep: what :func:`bench.summary.sweep` returns.
        metrics: metrics of the tasks.

    Returns:
        The figure.
    """
    heading = {
        "name": "expected_best",
        "title": "What tuning is worth: the best of k learning rates",
        "note": "Line: expected validation metric of the best of k of the rates that were tried, drawn without "
        "replacement; it begins where none of them needs to be one that diverged.",
    }
    curves = []
    places, left_out = places_of(sweep)
    most = min(10, sweep.groupby(ARM).size().max())
    for place, arm in within(sweep, places).groupby(ARM):
        sign = metrics[str(place[0])].sign
        trials = (sign * arm["validation"]).where(arm["diverged"] == 0, -math.inf)
        best = sign * stats.expected_best(trials)
        points = pd.DataFrame({"x": np.arange(1, len(best) + 1), "y": best, "low": best, "high": best})
        curves.append(_named(points, place))
    return lines(
        heading,
        pd.concat(curves, ignore_index=True),
        lambda task: ("learning rates tried", f"validation {metrics[task].name}"),
        lambda task: {"yscale": metrics[task].scale, "xticks": range(1, most + 1)},
        left_out=left_out,
    )


def invariance(test: pd.DataFrame, rows: Sequence[Row], metrics: Metrics) -> Figure:
    """Draw the test metric against sigma, the rescaling of the start: a panel per task and rule, a line per space.

    Args:
        test: test records of one profile, at the best rates.
        rows: what :func:`bench.summary.table` makes of them.
        metrics: metrics of the tasks.

    Returns:
        The figure; without panels, where no task has both a rescaled and a plain start.
    """
    heading = {
        "name": "invariance",
        "title": "What an unbalanced start costs",
        "note": "Line: interquartile mean over test seeds; band: 95 % interval. The start is rescaled by "
        "exp(sigma N(0, 1)) per hidden unit, which leaves its function as it is.",
    }
    first = test.groupby("name")[["specification", "tuned_task"]].first()
    sigma = {task: json.loads(text)["task"]["rescale"] for task, text in first["specification"].items()}
    base = {task: source for task, source in first["tuned_task"].items() if sigma[task] and sigma.get(source) == 0}
    base |= {source: source for source in base.values()}
    points = [(base[r.task], r.rule, r.space, sigma[r.task], *r.score) for r in rows if r.task in base]
    return lines(
        heading,
        pd.DataFrame(points, columns=POINT).sort_values("x"),
        lambda task: ("sigma", f"test {metrics[task].name}"),
        lambda task: {"yscale": metrics[task].scale},
    )
