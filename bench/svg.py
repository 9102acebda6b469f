"""Panels of figures as SVG: the same text for a page, where arms can be switched off, and for a file of its own."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator

INK = "#18181b"
"""Text and axes; in a page this becomes the colour of its text, light or dark."""
_SIZE = (3.6, 2.7)  # inches
_STYLE = "*{stroke-linejoin:round;stroke-linecap:butt}text{font-family:DejaVu Sans,Verdana,sans-serif}"
_ROW = 15  # points, of a legend
_ENTRY = 130
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "pathrnn",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may have dollars in it
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
}


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes:
        title: what it is about.
        alt: what it shows, in words.
        svg: its drawing; groups of arms have the attributes ``data-spaces`` and ``data-rules``.
    """

    title: str
    alt: str
    svg: str

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, in points."""
        return _SIZE[0] * 72, _SIZE[1] * 72

    def inline(self, prefix: str) -> str:
        """Write the panel for a page.

        Args:
            prefix: makes the identifiers of this panel differ from those of others.

        Returns:
            An ``svg`` element in the colours of the page.
        """
        label = escape(f"{self.title}. {self.alt}")
        body = _prefixed(self.svg, prefix).replace(INK, "currentColor")
        return f'<svg role="img" aria-label="{label}" viewBox="0 0 {self.size[0]:g} {self.size[1]:g}">{body}</svg>'


class Canvas:
    """Axes to draw on, which remember the arm that a drawing belongs to.

    Args:
        title: title of the panel.
    """

    def __init__(self, title: str) -> None:
        with mpl.rc_context(_SETTINGS), sns.axes_style("ticks", rc=_SETTINGS):
            self.figure = plt.figure(figsize=_SIZE)
            self.axis: Axes = self.figure.add_axes((0.21, 0.17, 0.76, 0.7))
        self.title = title
        self._tags: list[tuple[str, str]] = []

    def tag(self, artists: Artist | Iterable[Artist], spaces: Sequence[str], rule: str) -> None:
        """Say that artists go when one of the spaces, or the rule, is switched off."""
        for artist in [artists] if isinstance(artists, Artist) else artists:
            artist.set_gid(f"arm-{len(self._tags)}")
            self._tags.append(("\t".join(spaces), rule))

    def panel(self, alt: str, x: str, y: str) -> Panel:
        """Finish the drawing.

        Args:
            alt: what it shows, in words.
            x: label of the horizontal axis.
            y: label of the vertical axis.

        Returns:
            The panel.
        """
        buffer = io.StringIO()
        with mpl.rc_context(_SETTINGS):
            self.axis.set_title(self.title, fontsize=9)
            self.axis.set_xlabel(x)
            self.axis.set_ylabel(y)
            for axis in (self.axis.xaxis, self.axis.yaxis):
                _plain_ticks(axis)
            sns.despine(ax=self.axis)
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.figure.savefig(buffer, format="svg", metadata=nothing)
        plt.close(self.figure)
        return Panel(self.title, alt, self._stripped(buffer.getvalue()))

    def _stripped(self, svg: str) -> str:
        """Keep the drawing alone: one decimal of a point, identifiers that are referred to, arms by name."""
        body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
        body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
        body = re.sub(r' id="arm-(\d+)"', lambda match: self._attributes(int(match[1])), body)
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', body))
        body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", body)
        body = re.sub(r'="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), body)
        return re.sub(r"\s*\n\s*", "\n", body)

    def _attributes(self, number: int) -> str:
        spaces, rule = map(escape, self._tags[number])
        return f' data-spaces="{spaces}" data-rules="{rule}"'


def _plain_ticks(axis: Axis) -> None:
    """Write the numbers of a log scale out: powers of ten are mathematics, which names in a figure must not be."""
    if axis.get_scale() == "log":
        low, high = sorted(axis.get_view_interval())
        logarithmic = LogLocator(subs=(1,) if high > 100 * low else (1, 3))
        axis.set_major_locator(logarithmic if high > 4 * low else MaxNLocator(5))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def _prefixed(svg: str, prefix: str) -> str:
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)


def file(panels: Sequence[Panel], abreast: int, legend: dict[str, str], note: str) -> str:
    """Write panels side by side, with a legend above, as a file of its own.

    Args:
        panels: at least one.
        abreast: how many in a row.
        legend: colours of the entries by their names.
        note: what lines, dots and bands are.

    Returns:
        The text of an SVG file.
    """
    width, height = panels[0].size
    columns = min(abreast, len(panels))
    notes = textwrap.wrap(note, int(columns * width / 4.8))
    entries = max(1, int(columns * width // _ENTRY))
    top = _ROW * (len(notes) + -(-len(legend) // entries) + 1)
    whole = columns * width, top + height * -(-len(panels) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 '
        f'{whole[0]:g} {whole[1]:g}" width="{whole[0]:g}pt" height="{whole[1]:g}pt">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#ffffff"/>',
        *(_text(12, _ROW * (1 + row), line) for row, line in enumerate(notes)),
    ]
    for place, (name, color) in enumerate(legend.items()):
        left, line = 12 + _ENTRY * (place % entries), _ROW * (len(notes) + 1 + place // entries) + 4
        parts.append(f'<rect x="{left}" y="{line - 7}" width="16" height="7" fill="{color}"/>')
        parts.append(_text(left + 22, line, name))
    for place, panel in enumerate(panels):
        x, y = width * (place % columns), top + height * (place // columns)
        body = _prefixed(panel.svg, f"p{place}")
        parts.append(f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}">{body}</svg>')
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="9" fill="{INK}">{escape(text)}</text>'
