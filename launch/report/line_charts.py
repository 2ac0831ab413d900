"""Lines over epochs, seconds or bytes: thinned, labelled at their ends, on axes in readable units."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from launch.report.canvas import Canvas, Label
from launch.report.palette import light
from launch.report.thinning import Floats, thinned
from partition.optional import optional

FEW_POINTS = 40
"""Up to so many points of a line are marked."""
LABEL_ROOM = 0.3
"""Share of the width that labels beside lines may take; longer ones go above."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One line of a chart."""

    x: Floats
    y: Floats
    colour: str
    label: str = ""
    """Nothing where the line needs no name."""
    strong: bool = True
    """Thin where it is one of many."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """What numbers of an axis are divided by, and what is then said."""

    size: float
    name: str


def unit_of_seconds(most: float) -> Unit:
    """For an axis that ends at `most` seconds."""
    steps = ((7200, 3600, "hours"), (180, 60, "minutes"), (1, 1, "seconds"), (1e-3, 1e-3, "milliseconds"))
    return next(
        (Unit(size, name) for least, size, name in steps if most >= least), Unit(1e-6, "microseconds")
    )


def unit_of_bytes(most: float) -> Unit:
    """For an axis that ends at `most` bytes."""
    steps = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((Unit(size, name) for size, name in steps if most >= size), Unit(1, "bytes"))


def draw_lines(
    canvas: Canvas,
    lines: Sequence[Line],
    *,
    y: str,
    x: str = "epoch",
    log: bool = False,
    whole: bool = True,
    low: float = -math.inf,
) -> None:
    """All lines on one pair of axes; `x` and `y` say what they mean.

    `log`: whether y is logarithmic. `whole`: whether x are whole numbers. `low`: y below are not shown.
    """
    lines = [line for line in lines if np.isfinite(line.y).any()]
    named = list({line.label: line for line in lines if line.label}.values())
    wide = canvas.room([line.label for line in named]) + 12 if len(named) > 1 else 14
    beside = len(named) > 1 and wide <= LABEL_ROOM * canvas.width + 20
    above = len(named) > 1 and not beside
    top = 26.0 + (canvas.legend_height([line.label for line in reversed(named)]) if above else 0)
    axes = canvas.axes(right=wide if beside else 14, top=top)
    if log:
        axes.set_yscale("log")
    ends = []
    for line in lines:
        px, py = thinned(line.x, line.y, max(60, int(canvas.width - 60 - (wide if beside else 0))))
        if log:
            px, py = px[py > 0], py[py > 0]
        mark = {"marker": "o", "markersize": 3.2} if line.strong and px.size <= FEW_POINTS else {}
        colour = light(line.colour)
        axes.plot(
            px, py, color=colour, lw=1.8 if line.strong else 1.2, alpha=1 if line.strong else 0.7, **mark
        )
        if beside and line.label and py.size:
            ends.append(Label(float(py[-1]), line.label, colour))
    axes.margins(x=0.01, y=0.06)
    if axes.get_ylim()[0] < low:
        axes.set_ylim(bottom=low)
    canvas.ticks(axes, whole=whole)
    if log:
        _plain_log_ticks(axes)
    canvas.heads(axes, y, x)
    if beside:
        canvas.label_ends(axes, list({end.text: end for end in ends}.values()))
    elif above:
        canvas.legend([(line.label, light(line.colour)) for line in reversed(named)])


def _plain_log_ticks(axes: Any) -> None:
    """1, 0.5 and 0.2 in place of powers of ten, of which there may be none in sight."""
    ticker = optional("matplotlib.ticker")
    axis = axes.yaxis
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=6))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def needs_log(values: Floats) -> bool:
    """Whether values, all above 0, differ by so much that small ones would not be seen."""
    known = values[np.isfinite(values)]
    return known.size > 1 and known.min() > 0 and known.max() / known.min() > 30


def short_number(value: float) -> str:
    """Three or four digits; a dash for NaN."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"
