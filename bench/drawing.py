"""What all figures share: panels by task and rule, and in all of them one colour and one marker per space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns

from bench.seeds import seed
from bench.summary import order, rank
from bench.svg import Canvas, Panel

SPACE_COLORS = {"weight": "#868b94", "path": "#d55e00", "gauge": "#0072b2", "path_sgd": "#a104f4", "tanh": "#2cb8e0"}
SPACE_COLORS |= {"gru": "#8c603a", "lstm": "#c8a381", "weight_unclipped": "#00c18b", "path_unclipped": "#dc90d5"}
SPACE_COLORS |= {"gauge_unclipped": "#b6aa60", "path_index": "#b57aff", "path_normalised": "#7d1fd0"}
SPACE_COLORS |= {"path_frozen": "#e20858", "path_raw": "#f79000", "path_unguarded": "#1c7d54"}
"""One colour per space everywhere, told apart by colour-blind readers, on white and on black."""
_OTHERS = sns.husl_palette(12, s=0.6).as_hex()
_MARKERS = "os^DvPXphd*<>"
MOST_LINES = 120
"""So many lines a figure has at most, so that a page stays small; how many panels are left out is said."""

ARM = ["name", "rule_name", "space"]
"""Columns that name an arm on a task."""
POINT = [*ARM, "x", "y", "low", "high"]
"""Columns of what :func:`lines` draws."""

Place = tuple[str, str]
"""Names of task and rule: a panel."""
Extra = Callable[[Canvas, Place, str, pd.DataFrame], None]
"""Adds to a panel what a figure has beside its lines: takes canvas, panel, space and rows of the arm."""


@dataclass(frozen=True)
class Figure:
    """Panels that answer one question.

    Attributes:
        name: stem of its file.
        title: the question.
        note: what lines, dots and bands are.
        panels: the panels.
        abreast: how many stand in a row of the file.
        left_out: panels beyond the first :data:`MOST_LINES` lines.
    """

    name: str
    title: str
    note: str
    panels: list[Panel]
    abreast: int
    left_out: int = 0


@dataclass(frozen=True)
class Metric:
    """The metric of a task: name and unit, 1 where greater is better or -1, and whether its axis is logarithmic."""

    name: str
    sign: int
    log: bool

    @property
    def scale(self) -> str:
        """Scale of its axis."""
        return "log" if self.log else "linear"


def metrics(records: pd.DataFrame) -> dict[str, Metric]:
    """Describe the metric of each task; a loss stands on a log scale, if it is positive everywhere."""
    result = {}
    for task, own in records.groupby("name"):
        higher, positive = own["higher_is_better"].iloc[0], own[["test", "validation"]].min().min() > 0
        result[str(task)] = Metric(str(own["metric"].iloc[0]), 1 if higher else -1, bool(positive and not higher))
    return result


def color_of(space: str) -> str:
    """Give a space its colour; a name that is not ours has one that its letters decide."""
    return SPACE_COLORS.get(space) or str(_OTHERS[seed(space) % len(_OTHERS)])


def space_colors(spaces: Iterable[str]) -> dict[str, str]:
    """Give each space its colour, in the order of tables."""
    return {space: color_of(space) for space in sorted(set(spaces), key=lambda space: rank("space", space))}


def marker(space: str) -> str:
    """Give each space its marker."""
    place = list(SPACE_COLORS).index(space) if space in SPACE_COLORS else seed(space)
    return _MARKERS[place % len(_MARKERS)]


def places_of(frame: pd.DataFrame) -> tuple[list[Place], int]:
    """List the panels of a figure by task and rule, as many as it may have.

    Args:
        frame: columns ``name``, ``rule_name`` and ``space``.

    Returns:
        Their names in the order of tables, and how many are left out.
    """
    found = set(zip(frame["name"], frame["rule_name"], strict=True))
    places = sorted(found, key=lambda place: order(*place))
    most = max(1, MOST_LINES // max(1, frame["space"].nunique()))
    return places[:most], max(0, len(places) - most)


def within(frame: pd.DataFrame, places: Sequence[Place]) -> pd.DataFrame:
    """Keep the rows of some panels."""
    return frame[pd.MultiIndex.from_frame(frame[["name", "rule_name"]]).isin(places)]


def lines(
    heading: Mapping[str, str],
    frame: pd.DataFrame,
    labels: Callable[[str], tuple[str, str]],
    scale: Callable[[str], Mapping[str, Any]],
    extra: Extra | None = None,
    left_out: int = 0,
    **style: Any,
) -> Figure:
    """Draw a panel per task and rule, a line per space with a band.

    Args:
        heading: name, title and note of the figure.
        frame: columns :data:`POINT`; what is infinite is left out.
        labels: labels of the two axes, by the name of the task.
        scale: settings of the axes, by the name of the task.
        extra: adds to each arm.
        left_out: panels that are left out already.
        style: of the lines.

    Returns:
        The figure.
    """

    def draw(place: Place) -> Panel:
        canvas = Canvas(", ".join(place))
        own, ends = within(frame, [place]), []
        for space, color in space_colors(own["space"]).items():
            arm = own[own["space"] == space]
            _line(canvas, arm[np.isfinite(arm["y"])], space, place[1], color, **style)
            if extra is not None:
                extra(canvas, place, space, arm)
            ends.append(f"{space} {arm['y'].iloc[-1]:.4g}" if len(arm) else f"{space} nothing")
        canvas.axis.update_datalim(np.column_stack([own["x"], own["x"]]), updatey=False)  # also of what diverged
        settings = dict(scale(place[0]))
        if not np.isfinite(own["y"]).any():
            settings.pop("yscale", None)
        canvas.axis.set(**settings)
        return canvas.panel(f"At the right end: {'; '.join(ends)}.", *labels(place[0]))

    places, more = places_of(frame)
    abreast = len({rule for _, rule in places})
    return Figure(**heading, panels=list(map(draw, places)), abreast=min(abreast, 4), left_out=left_out + more)


def _line(canvas: Canvas, arm: pd.DataFrame, space: str, rule: str, color: str, **style: Any) -> None:
    before = len(canvas.axis.lines)
    style = {"marker": marker(space), "markersize": 4, "markeredgewidth": 0, **style}
    sns.lineplot(arm, x="x", y="y", color=color, errorbar=None, estimator=None, ax=canvas.axis, **style)
    canvas.tag(canvas.axis.lines[before:], [space], rule)
    step = {"step": "post"} if style.get("drawstyle") == "steps-post" else {}
    band = canvas.axis.fill_between(arm["x"], arm["low"], arm["high"], color=color, alpha=0.15, lw=0, **step)  # type: ignore[arg-type]
    canvas.tag(band, [space], rule)


def cross(canvas: Canvas, x: Iterable[float], space: str, rule: str) -> None:
    """Mark at the foot of a panel what diverged."""
    at, color = list(x), color_of(space)
    if at:
        foot = canvas.axis.get_xaxis_transform()
        marks = canvas.axis.scatter(
            at, [0.02] * len(at), s=18, color=color, marker="x", transform=foot, clip_on=False, zorder=4
        )
        canvas.tag(marks, [space], rule)
