"""What ``python -m bench stacks`` prints and draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns

from bench.files import writing
from bench.scaling import ALONE, PROCESSES, Scaling, ScalingSuite
from bench.svg import INK, Canvas, Panel, file
from bench.tables import console, plain_table

_COLORS = {ALONE: "#868b94", "stack, weight space": "#0072b2", "stack, path space": "#d55e00", PROCESSES: "#8c603a"}


def print_scaling(suite: ScalingSuite, rows: Sequence[Scaling]) -> None:
    """Print a line per way and size.

    Args:
        suite: what was timed.
        rows: what came out.
    """
    numbers = ("sequences/s", "times nn.RNN", "of one product", "memory, MiB")
    table = plain_table("grid", "steps x units, batch", "replicas", "way", *numbers, right=["replicas", *numbers])
    for row in rows:
        size = f"{row.steps} x {row.hidden}, {row.batch}"
        if isnan(row.samples):
            why = row.way if row.device else f"not measured: torch sees no {suite.grids[row.grid].device} device"
            table.add_row(row.grid, size, str(row.replicas or ""), why, "", "", "", "")
            continue
        cells = f"{row.samples:,.0f}", f"{row.speed:.2f}", f"{100 * row.samples / row.roof:.0f} %", f"{row.memory:,.0f}"
        table.add_row(row.grid, size, str(row.replicas), row.way, *("" if "nan" in cell else cell for cell in cells))
    out = console()
    out.print(suite.title, style="bold")
    out.print(table)
    out.print(f"Medians of {suite.rounds} rounds, in turns; ratios are medians of ratios. SGD, clipped; one thread.")
    out.print("Processes train one run each, on a core each, all at once; the other ways have one core.")


def print_optimizers(ratios: Mapping[str, Mapping[str, float]]) -> None:
    """Print what the optimizer's part of a step costs in path space.

    Args:
        ratios: times in path space over those of rules of torch, by device and by their names.
    """
    table = plain_table("SGD in path space, over", *ratios, right=list(ratios))
    for name in next(iter(ratios.values())):
        values = [own[name] for own in ratios.values()]
        table.add_row(f"{name}, weight space", *("not measured" if isnan(own) else f"{own:.2f}" for own in values))
    console().print("The optimizer's part of a step alone, times", style="bold")
    console().print(table)


def write_figure(folder: Path, rows: Sequence[Scaling]) -> None:
    """Draw sequences per second by replicas: a panel per size, with the roof as a line.

    Args:
        folder: where ``stacks.svg`` goes.
        rows: what came out; nothing is drawn where nothing was measured.

    Raises:
        InputError: it cannot be written.
    """
    frame = pd.DataFrame(rows).dropna(subset="samples")
    sizes = ["device", "steps", "hidden", "batch"]
    panels = [_panel(own, size) for size, own in frame.groupby(sizes, sort=False)] if len(frame) else []
    if panels:
        note = "Sequences per second of all replicas by their number; dashed, what one large product would reach."
        with writing(folder):
            (folder / "stacks.svg").write_text(file(panels, 3, _COLORS, note), encoding="utf-8")


def _panel(frame: pd.DataFrame, size: Any) -> Panel:
    device, steps, hidden, batch = size
    canvas = Canvas(f"{device}, {steps} steps, {hidden} units, batch {batch}")
    for way, own in frame.groupby("way", sort=False):
        style = {"marker": "o", "markersize": 4, "markeredgewidth": 0, "color": _COLORS.get(str(way), "#2cb8e0")}
        sns.lineplot(own, x="replicas", y="samples", errorbar=None, ax=canvas.axis, **style)
    roof = float(frame["roof"].iloc[0])
    canvas.axis.axhline(roof, color=INK, linestyle="--", linewidth=1)
    canvas.axis.set(xscale="log", yscale="log", ylim=(frame["samples"].min() / 1.5, roof * 1.5))
    best: Any = max(frame.to_dict("records"), key=itemgetter("samples"))
    what = f"{best['way']}, {best['replicas']} replicas, {best['samples']:,.0f} sequences per second"
    alt = f"Best: {what} of {roof:,.0f}."
    return canvas.panel(alt, "replicas", "sequences per second")
