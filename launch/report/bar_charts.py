"""Bars: shares of a whole on one another, a number at the end of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnsgcn.show.units import short
from launch.report.canvas import Canvas
from launch.report.palette import light
from launch.report.thinning import Floats
from partition.optional import optional

BAR = 22
"""Pixels of a bar and the gap to the next."""
LEAST_BARS = 110
"""Pixels that few bars share."""
AROUND_BARS = 62
"""Pixels above and below all bars."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """One kind of what bars are made of."""

    label: str
    colour: str
    values: Floats
    """One for each bar."""


def height_of(bars: int) -> int:
    """Pixels of a chart of so many bars."""
    return AROUND_BARS + max(BAR * bars, LEAST_BARS)


def draw_bars(
    canvas: Canvas,
    names: Sequence[str],
    pieces: Sequence[Stack],
    ends: Sequence[str],
    *,
    x: str,
    mark: tuple[float, str] | None = None,
    base: float = 0.0,
) -> None:
    """Bars from top to bottom, `ends` at their ends, what they are made of above.

    mark: a value to compare with, and its words.    base: where bars begin.
    """
    most = max(
        float(np.nansum([piece.values for piece in pieces], axis=0).max()), mark[0] if mark else 0.0, 1e-12
    )
    top = canvas.legend_height([piece.label for piece in pieces]) + 4 if len(pieces) > 1 else 12.0
    top += canvas.font * 1.4 if mark else 0
    left = canvas.room_beside(names)
    axes = canvas.axes(left=left, right=canvas.room(ends) + 16, top=top, bottom=40)
    places = np.arange(len(names), dtype=float)
    starts = np.full(len(names), base)
    for piece in pieces:
        axes.barh(
            places, np.nan_to_num(piece.values), left=starts, height=0.56, color=light(piece.colour), lw=0
        )
        starts = starts + np.nan_to_num(piece.values)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(base, base + most * 1.02))
    _name_rows(canvas, axes, names, left)
    if mark is not None:
        axes.axvline(mark[0], color=light("ink"), lw=1.2, ls=(0, (3, 2)))
        axes.annotate(
            *(mark[1], (mark[0], 1)),
            **{"xycoords": ("data", "axes fraction"), "xytext": (0, 4), "textcoords": "offset points"},
            **{"ha": "center", "va": "bottom", "fontsize": canvas.font, "color": light("muted")},
        )
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axes.annotate(
            *(end, (start, place)),
            **{"xytext": (5, 0), "textcoords": "offset points", "va": "center"},
            **{"fontsize": canvas.font, "color": light("ink"), "annotation_clip": False, "parse_math": False},
        )
    if len(pieces) > 1:
        canvas.legend([(piece.label, light(piece.colour)) for piece in pieces])
    canvas.ticks(axes, x=5)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=light("grid"), linewidth=1)
    axes.set_yticks([])
    axes.set_xlabel(x, color=light("muted"), fontsize=canvas.font, labelpad=4, loc="right")


def _name_rows(canvas: Canvas, axes: Any, names: Sequence[str], left: float) -> None:
    room = int((left - 8) / (canvas.font * 0.56))
    for place, name in enumerate(names):
        words = name if len(name) <= room + 1 else f"{name[: max(1, room - 1)]}…"
        axes.annotate(
            *(words, (0, place)),
            **{"xycoords": ("axes fraction", "data"), "xytext": (-7, 0), "textcoords": "offset points"},
            **{"ha": "right", "va": "center", "fontsize": canvas.font, "color": light("ink")},
            **{"annotation_clip": False, "parse_math": False},
        )


def draw_heat(canvas: Canvas, rows: Floats, *, y: str, x: str, group: int = 1) -> None:
    """Squares [P, P], the darker the more; with their numbers where there is room. Diagonal cells are empty.

    `group`: how many parts a row stands for.
    """
    count = rows.shape[0]
    side = min(canvas.width - 70.0, canvas.height - 66.0)
    left = (canvas.width - side) / 2 + 12
    axes = canvas.axes(left=left, right=canvas.width - left - side, top=26, bottom=canvas.height - 26 - side)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    most = max(float(rows.max()), 1.0)
    patches = optional("matplotlib.patches")
    numbered = side / count >= 38
    for (owner, reader), value in np.ndenumerate(rows):
        empty = owner == reader and group == 1
        share = 0.06 + 0.94 * float(value) / most
        face = (
            {"facecolor": light("grid"), "alpha": 0.5}
            if empty
            else {"facecolor": light("c0"), "alpha": share}
        )
        axes.add_patch(patches.Rectangle((reader - 0.48, owner - 0.48), 0.96, 0.96, lw=0, **face))
        if numbered and not empty:
            ink = light("onheat" if share > 0.55 else "ink")
            axes.text(
                reader,
                owner,
                short(int(value)),
                ha="center",
                va="center",
                color=ink,
                fontsize=canvas.font - 1,
            )
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    step = max(1, -(-count // 12))
    ticks = list(range(0, count, step))
    axes.set_xticks(ticks, [str(tick * group) for tick in ticks])
    axes.set_yticks(ticks, [str(tick * group) for tick in ticks])
    axes.set_xlabel(x, color=light("muted"), fontsize=canvas.font, labelpad=4)
    axes.set_ylabel(y, color=light("muted"), fontsize=canvas.font, labelpad=4)
