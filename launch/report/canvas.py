"""A chart and what it is drawn on: matplotlib at a width in pixels, with labels beside lines, not in a box.

The same drawing serves a page (SVG in CSS variables, once for wide screens and once for narrow ones) and a
paper (PNG and SVG files with the title in them). pyplot, which keeps state, is not used.
"""

from __future__ import annotations

import dataclasses
import html
import io
import itertools
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch.report.palette import as_variables, light
from partition.errors import UserError, one_line, printable
from partition.optional import optional
from partition.plot import figure_class

WIDE, NARROW = 548, 326
"""Pixels that a chart has on a page of two columns, and on a telephone."""
POINTS = 72
"""matplotlib's SVG has so many pixels to an inch."""
LETTER = 0.56
"""Width of a letter over the size of its font, in the mean."""
BOLD_LETTER = 0.66


@dataclasses.dataclass(frozen=True)
class Label:
    """Words at the end of a line."""

    y: float
    text: str
    colour: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure; its title is what it shows, in a sentence."""

    name: str
    """Of its files."""
    title: str
    draw: Callable[[Canvas], None]
    note: str = ""
    height: int = 250
    """Pixels."""


class Canvas:
    """Where a chart is drawn."""

    def __init__(self, figure: Any, width: int, height: int, top: int = 0) -> None:
        self.width, self.height, self._top, self._figure = width, height, top, figure
        self.narrow = width < 420
        self.font = 11.0 if self.narrow else 12.0

    def room(self, texts: Sequence[str]) -> float:
        """Pixels that the longest of `texts` takes."""
        return max((len(text) for text in texts), default=0) * self.font * LETTER

    def room_beside(self, names: Sequence[str]) -> float:
        """Pixels for names to the left of rows: what they take, as long as that leaves room for the rows."""
        return min(self.room(names) + 16, self.width * (0.54 if self.narrow else 0.4))

    def axes(
        self, *, left: float = 46, right: float = 14, top: float = 26, bottom: float = 40, share: float = 1.0
    ) -> Any:
        """Axes within these margins in pixels, of the left `share` of the width; only rows have lines."""
        wide, high = self.width * share, self.height + self._top
        inside = [left / self.width, bottom / high, (wide - left - right) / self.width]
        axes = self._figure.add_axes([*inside, (self.height - top - bottom) / high])
        axes.tick_params(length=0, labelsize=self.font, colors=light("muted"), pad=5)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set(color=light("quiet"), linewidth=1)
        axes.grid(axis="y", color=light("grid"), linewidth=1)
        axes.set_axisbelow(True)
        return axes

    def heads(self, axes: Any, y: str, x: str = "") -> None:
        """Says what the axes mean: y above the axis, from the left edge, x below it."""
        box = axes.get_position()
        lift = 9 / (self.height + self._top)
        self._figure.text(6 / self.width, box.y1 + lift, y, color=light("muted"), fontsize=self.font)
        if x:
            axes.set_xlabel(x, color=light("muted"), fontsize=self.font, labelpad=4)

    def ticks(self, axes: Any, *, x: int = 6, y: int = 4, whole: bool = False) -> None:
        """At most so many ticks; fewer on a narrow canvas."""
        ticker = optional("matplotlib.ticker")
        steps = [1, 2, 2.5, 5, 10]
        many = max(3, x - 2) if self.narrow else x
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=many, steps=steps, integer=whole))
        if axes.get_yscale() == "linear":
            axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=y, steps=steps))

    def label_ends(self, axes: Any, labels: Sequence[Label]) -> None:
        """Words to the right of the axes at the lines' ends, moved apart where they would touch."""
        high = self.height + self._top
        scale = POINTS / axes.figure.dpi  # from matplotlib's dots to our pixels
        places = [float(axes.transData.transform((0, label.y))[1]) * scale for label in labels]
        right = axes.get_position().x1 * self.width + 6
        low = axes.get_position().y0 * high
        for label, y in zip(labels, apart(places, self.font * 1.25, low), strict=True):
            self._figure.text(
                *(right / self.width, y / high, label.text),
                **{"color": label.colour, "fontsize": self.font, "va": "center", "parse_math": False},
            )

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Names of colours in a row above the axes, in lines of as many as fit."""
        x, y = 6.0, self.height - 9.0
        for text, colour in entries:
            wide = self.room([text]) + 30
            if x + wide > self.width and x > 6:
                x, y = 6.0, y - self.font * 1.5
            high = self.height + self._top
            patches = optional("matplotlib.patches")
            box = patches.Rectangle(
                (x / self.width, (y - 5) / high),
                10 / self.width,
                10 / high,
                color=colour,
                linewidth=0,
                transform=self._figure.transFigure,
            )
            self._figure.add_artist(box)
            self.write(x + 15, y, text, light("ink"))
            x += wide

    def legend_height(self, texts: Sequence[str]) -> float:
        """Pixels that `legend` takes."""
        x, lines = 6.0, 1
        for text in texts:
            wide = self.room([text]) + 30
            if x + wide > self.width and x > 6:
                x, lines = 6.0, lines + 1
            x += wide
        return 8 + lines * self.font * 1.5

    def write(self, x: float, y: float, text: str, colour: str, **how: Any) -> None:
        """Words at a place in pixels, in the middle of their height."""
        place = x / self.width, y / (self.height + self._top)
        how = {"fontsize": self.font, "va": "center", "parse_math": False, **how}
        self._figure.text(*place, printable(text), color=colour, **how)


def apart(places: Sequence[float], gap: float, low: float) -> list[float]:
    """`places` moved so that no two are nearer than `gap`, each as little as may be, none below `low`."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for _ in range(60):
        for below, above in itertools.pairwise(order):
            lack = gap - (moved[above] - moved[below])
            if lack > 0:
                moved[below] -= lack / 2
                moved[above] += lack / 2
        if order:
            moved[order[0]] = max(moved[order[0]], low)
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return moved


# ---- from a chart to a picture ----


@contextmanager
def _style(*, letters: str) -> Iterator[None]:
    backend = os.environ.pop("MPLBACKEND", None)  # where it names an absent one, importing matplotlib fails
    try:
        matplotlib = optional("matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    chosen = {
        "font.family": ["DejaVu Sans"],
        "svg.fonttype": letters,
        "svg.hashsalt": "bnsgcn",
        "path.simplify": False,
        "text.color": light("ink"),
        "axes.facecolor": "none",
    }
    with matplotlib.rc_context(chosen):
        yield


def svg_of(chart: Chart, width: int) -> str:
    """An <svg> element for a page: text is text, colours are CSS variables, ids are the chart's own."""
    with _style(letters="none"):
        figure = figure_class()(figsize=(width / POINTS, chart.height / POINTS), facecolor="none")
        chart.draw(Canvas(figure, width, chart.height))
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _slim(text.getvalue(), f"{chart.name}-{width}", chart.title)


def save_figures(
    charts: Sequence[Chart], folder: Path, endings: Sequence[str] = ("svg", "png")
) -> list[Path]:
    """Each chart as NAME.svg and NAME.png in `folder`, with its title, on white.

    Raises:
        UserError: matplotlib is absent, or the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            figure = _titled(chart)
            for ending in endings:
                path = folder / f"{chart.name}.{ending}"
                with _style(letters="path"):
                    figure.savefig(path, dpi=220)
                written.append(path)
    except OSError as error:
        raise UserError(f"--figures {folder} cannot be written ({one_line(error)}); name another") from error
    return written


def _titled(chart: Chart) -> Any:
    lines = _lines(chart.title, int(WIDE / (13 * BOLD_LETTER)))
    top = 12 + 18 * len(lines)
    with _style(letters="path"):
        size = WIDE / POINTS, (chart.height + top) / POINTS
        figure = figure_class()(figsize=size, facecolor="white")
        chart.draw(Canvas(figure, WIDE, chart.height, top))
        for number, line in enumerate(lines):
            y = 1 - (16 + 18 * number) / (chart.height + top)
            figure.text(6 / WIDE, y, line, fontsize=13, fontweight="bold", va="center", parse_math=False)
    return figure


def _lines(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns)


_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_STYLED_FONT = re.compile(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*")


def _rounded(number: re.Match[str]) -> str:
    """A place or a length to a tenth of a pixel; opacities, which are below 1, to a hundredth."""
    value = float(number[0])
    return f"{value:.{2 if abs(value) < 1 else 1}f}".removesuffix("0").removesuffix(".0").removesuffix(".")


def _slim(svg: str, name: str, title: str) -> str:
    """matplotlib's document as an element of a page, of half the size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _TAG.sub(lambda tag: _NUMBER.sub(_rounded, tag[0]), svg)
    svg = _STYLED_FONT.sub(lambda found: f"font-size: {found[2]}px", svg)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r"(url\(#|xlink:href=\"#)", rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return as_variables(svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1))
