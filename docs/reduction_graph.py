"""Draw docs/reduction_graph.svg: a network unrolled over time, and its reduction graph with the index skeleton.

The skeleton is the one that the package chooses: ``python docs/reduction_graph.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from torch import nn

import pathrnn
from pathrnn.basis import Entries, choose

Node = tuple[int, int]  # layer, number; the bias node is (-1, 0)
Point = tuple[float, float]

INK, PALE = "#444444", "#b8b8b8"
IN, OUT, PATH = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito's palette


def arrow(axes: Axes, start: Point, end: Point, colour: str, bend: float = 0.0, width: float = 1.0) -> None:
    """Draw an edge between two nodes."""
    style = f"arc3,rad={bend}"
    patch = FancyArrowPatch(
        start,
        end,
        connectionstyle=style,
        arrowstyle="-|>",
        mutation_scale=9,
        shrinkA=11,
        shrinkB=11,
        color=colour,
        lw=width,
    )
    axes.add_patch(patch)


def loop(axes: Axes, at: Point) -> None:
    """Draw a self-loop."""
    axes.add_patch(Circle((at[0], at[1] + 0.24), 0.13, fill=False, edgecolor=PALE, lw=1.0, zorder=2))


def node(axes: Axes, at: Point, label: str) -> None:
    """Draw a unit."""
    axes.add_patch(Circle(at, 0.17, facecolor="white", edgecolor=INK, lw=1.2, zorder=3))
    axes.text(*at, label, ha="center", va="center", fontsize=9, zorder=4, color=INK)


def unrolled(axes: Axes) -> None:
    """Three steps of the network, a vector of units to a circle."""
    for step in range(3):
        for row, label in enumerate((f"$x_{step + 1}$", f"$h_{step + 1}$", f"$y_{step + 1}$")):
            node(axes, (step * 1.1, row * 1.5), label)
        arrow(axes, (step * 1.1, 0), (step * 1.1, 1.5), INK)
        arrow(axes, (step * 1.1, 1.5), (step * 1.1, 3.0), INK)
        if step:
            arrow(axes, ((step - 1) * 1.1, 1.5), (step * 1.1, 1.5), INK)
    for place, label in (((-0.08, 0.72), "$W^1$"), ((0.55, 1.63), "$U^1$"), ((-0.08, 2.2), "$W^2$")):
        axes.text(*place, label, ha="right" if place[0] < 0 else "center", fontsize=9, color=INK)
    axes.set_title("the network, unrolled over three steps", fontsize=10, color=INK)


def chosen(entries: Entries, layer: int) -> list[int]:
    """List the other end of each unit's skeleton edge."""
    return [int(unit) for unit in entries.units[layer - 1].squeeze(entries.dim)]


def reduced(axes: Axes) -> None:
    """The reduction graph of 2 inputs, 3 hidden units and 2 outputs."""
    graph = pathrnn.ReductionGraph(nn.RNN(2, 3, nonlinearity="relu"), nn.Linear(3, 2))
    skeleton = choose(graph, "index")
    source, target = chosen(skeleton.ins, 1), chosen(skeleton.outs, 1)
    x = {0: [0.6, 2.2], 1: [0.0, 1.4, 2.8], 2: [0.6, 2.2]}
    place = {(layer, unit): (x[layer][unit], 1.5 * layer) for layer in x for unit in range(len(x[layer]))}
    place[-1, 0] = (-1.0, 0.0)
    for v in range(3):
        for u in range(2):
            arrow(axes, place[0, u], place[1, v], IN if source[v] == u else PALE, width=2.2 if source[v] == u else 1.0)
            arrow(axes, place[1, v], place[2, u], OUT if target[v] == u else PALE, width=2.2 if target[v] == u else 1.0)
        for u in range(3):
            if u != v:
                arrow(
                    axes,
                    place[1, u],
                    place[1, v],
                    PATH if (u, v) == (2, 1) else PALE,
                    0.28,
                    2.2 if (u, v) == (2, 1) else 1.0,
                )
        loop(axes, place[1, v])
        arrow(axes, place[-1, 0], place[1, v], PALE)
    for u in range(2):
        arrow(axes, place[-1, 0], place[2, u], PALE, -0.3)
    labels = {(0, 0): "$x_1$", (0, 1): "$x_2$", (2, 0): "$y_1$", (2, 1): "$y_2$", (-1, 0): "1"}
    for at, where in place.items():
        node(axes, where, labels.get(at, f"$h_{at[1] + 1}$"))
    axes.set_title("its reduction graph", fontsize=10, color=INK)
    notes = [(IN, "in-skeleton edge, one into each unit"), (OUT, "out-skeleton edge, one out of each unit")]
    notes += [(PATH, "an edge $e$; its basis path is $x_1 \\to h_3 \\to h_2 \\to y_2$")]
    for row, (colour, text) in enumerate(notes):
        axes.plot([-1.1, -0.8], [-0.6 - 0.3 * row] * 2, color=colour, lw=2.4, solid_capstyle="butt")
        axes.text(-0.7, -0.6 - 0.3 * row, text, fontsize=8.5, va="center", color=INK)


def draw(path: Path) -> None:
    """Write the figure; the same bytes each time."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "pathrnn", "svg.fonttype": "path"})
        figure = Figure(figsize=(8.6, 4.2))
        FigureCanvasSVG(figure)  # measures text, whatever backend others use
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
        unrolled(left)
        reduced(right)
        for axes in (left, right):
            axes.set_aspect("equal")
            axes.set_axis_off()
            axes.set_ylim(-1.4, 3.4)
        left.set_xlim(-0.6, 2.6)
        right.set_xlim(-1.3, 3.4)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg"))
