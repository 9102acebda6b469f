"""Figures of a suite, as SVG: learning curves with bands, and the final metric of every arm and seed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.seeds import seed

SPACE_COLORS = {"weight": "#8a8f98", "path": "#c2410c", "gauge": "#0072b2", "path_normalised": "#009e73"}
SPACE_COLORS |= {"path_index": "#e69f00", "path_unclipped": "#cc79a7", "gauge_unclipped": "#56b4e9"}
SPACE_COLORS |= {"path_frozen": "#b3a400", "path_unguarded": "#7a5195", "path_raw": "#1a1a1a"}
SPACE_COLORS |= {"weight_unclipped": "#c8ccd2", "path_sgd": "#8c510a"}
SPACE_COLORS |= {"tanh": "#dfc27d", "gru": "#35978f", "lstm": "#003c30"}
"""One colour per space everywhere, told apart by colour-blind readers; their order is that of tables."""
_PANEL = (3.6, 2.9)  # inches
_ABREAST = 4  # panels in a row, where they are as many as tasks


def space_colors(spaces: Iterable[str]) -> dict[str, str]:
    """Give each space its colour, in the order of tables; a name that is not ours has one that its letters decide."""
    others = sns.husl_palette(12, s=0.6).as_hex()
    unknown = {space: others[seed(space) % len(others)] for space in sorted(set(spaces) - set(SPACE_COLORS))}
    return {space: color for space, color in (SPACE_COLORS | unknown).items() if space in set(spaces)}


def learning_curves(test: pd.DataFrame, tasks: Sequence[str], rules: Sequence[str]) -> str:
    """Draw the validation metric during training: a panel per task and rule, a line per space, a band over seeds.

    Args:
        test: test records of one profile.
        tasks: rows of panels.
        rules: columns of panels.

    Returns:
        The figure as SVG text.
    """
    columns = ["curve_update", "curve_validation"]
    curves = test.explode(columns).astype(dict.fromkeys(columns, float))
    figure, axes = _panels(len(tasks), len(rules), sharey="row")
    for row, task in enumerate(tasks):
        for column, rule in enumerate(rules):
            axis = axes[row][column]
            panel = curves[(curves["name"] == task) & (curves["rule_name"] == rule)]
            colors = space_colors(panel["space"])
            sns.lineplot(
                panel,
                x="curve_update",
                y="curve_validation",
                hue="space",
                hue_order=list(colors),
                palette=colors,
                estimator="mean",
                errorbar=("pi", 100),
                legend=False,
                ax=axis,
            )
            if not test.loc[test["name"] == task, "higher_is_better"].iloc[0]:
                axis.set_yscale("log")
            axis.set(title=f"{task}, {rule}", xlabel="update" if row == len(tasks) - 1 else "")
            axis.set_ylabel(f"validation {_metric(test, task)}" if column == 0 else "")
    _legend(figure, test, "line: mean over test seeds at the best rate; band: smallest to largest")
    return _svg(figure)


def final_metric(test: pd.DataFrame, tasks: Sequence[str], rules: Sequence[str]) -> str:
    """Draw the test metric: a panel per task, a dot per arm and seed, a line between the two spaces of a seed.

    Args:
        test: test records of one profile.
        tasks: panels.
        rules: groups inside a panel.

    Returns:
        The figure as SVG text.
    """
    figure, axes = _panels(-(-len(tasks) // _ABREAST), min(len(tasks), _ABREAST), sharey=False)
    places = [axis for row in axes for axis in row]
    for axis in places[len(tasks) :]:
        axis.remove()
    for axis, task in zip(places, tasks, strict=False):
        panel = test[test["name"] == task]
        _pairs(axis, panel, rules)
        axis.set(title=task, xlabel="", ylabel=f"test {_metric(test, task)}")
        axis.set_xticks(range(len(rules)), rules)
        axis.set_xlim(-0.5, len(rules) - 0.5)
    _legend(figure, test, "dot: one test seed; bar: mean; thin line: the same seed in all spaces")
    return _svg(figure)


def _pairs(axis: Axes, panel: pd.DataFrame, rules: Sequence[str]) -> None:
    colors = space_colors(panel["space"])
    width = 0.6 / len(colors)
    places = {space: width * (place - (len(colors) - 1) / 2) for place, space in enumerate(colors)}
    for group, rule in enumerate(rules):
        wide = panel[panel["rule_name"] == rule].pivot_table(index="index", columns="space", values="test")
        spaces = [space for space in places if space in wide]
        for _, values in wide.iterrows():
            axis.plot(
                [group + places[s] for s in spaces], [values[s] for s in spaces], color="#d4d4d8", lw=0.8, zorder=1
            )
        for space in spaces:
            x = group + places[space]
            axis.scatter([x] * len(wide), wide[space], s=18, color=colors[space], zorder=3)
            axis.hlines(wide[space].mean(), x - width / 3, x + width / 3, color=colors[space], lw=2.2, zorder=2)


def _panels(rows: int, columns: int, sharey: bool | str) -> tuple[Figure, list[list[Axes]]]:
    mpl.rcParams.update({"svg.hashsalt": "pathrnn", "svg.fonttype": "none", "font.size": 9})
    sns.set_style("ticks")
    size = (_PANEL[0] * columns, _PANEL[1] * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=sharey, squeeze=False, layout="constrained")  # type: ignore[arg-type]
    return figure, axes.tolist()


def _metric(test: pd.DataFrame, task: str) -> str:
    return str(test.loc[test["name"] == task, "metric"].iloc[0])


def _legend(figure: Figure, test: pd.DataFrame, note: str) -> None:
    shown = space_colors(test["space"]).items()
    handles = [Line2D([], [], color=color, lw=2.5, label=space) for space, color in shown]
    figure.legend(handles=handles, title=note, loc="outside upper center", ncols=min(5, len(handles)), frameon=False)


def _svg(figure: Figure) -> str:
    """Write without date or random identifiers, so that the same records give the same bytes."""
    for axis in figure.axes:
        sns.despine(ax=axis)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()
