"""The pictures of the errors of sums: of draws against their rate, of settings against their bytes."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import Any

from launch.report.canvas import Canvas, Chart, Label
from launch.report.palette import light

KINDS = {
    "uniform": ("uniform draws", "c1"),
    "importance": ("importance draws", "c0"),
    "cache": ("halo cache", "c2"),
}


def variance_picture(lines: Sequence[dict[str, Any]]) -> Chart:
    """Error against rate on all graphs and cuts, at the largest dropout: thin each, strong their mean."""
    dropout = max(line["dropout"] for line in lines)
    chosen = [line for line in lines if line["dropout"] == dropout]
    rates = sorted({line["rate"] for line in chosen})
    middle = min(rates, key=lambda rate: abs(math.log(rate / 0.1)))
    at = [line for line in chosen if line["rate"] == middle]
    gain = statistics.geometric_mean(line["importance"] / line["uniform"] for line in at)
    title = f"At rate {middle:g} importance draws have {gain:.2f} of uniform ones' error, for the same bytes"
    return Chart(
        name="variance",
        title=title,
        draw=functools.partial(_draw_errors, lines=chosen, rates=rates),
        height=320,
    )


def _draw_errors(canvas: Canvas, *, lines: Sequence[dict[str, Any]], rates: Sequence[float]) -> None:
    axes = canvas.axes(right=canvas.room([words for words, _ in KINDS.values()]) + 10)
    axes.set(xscale="log", yscale="log")
    cells = sorted({(line["graph"], line["cut"]) for line in lines})
    ends = []
    for kind, (words, colour) in KINDS.items():
        for cell in cells:
            found = {line["rate"]: line[kind] for line in lines if (line["graph"], line["cut"]) == cell}
            axes.plot(
                rates, [found.get(rate, math.nan) for rate in rates], color=light(colour), lw=1, alpha=0.25
            )
        means = [
            statistics.geometric_mean(line[kind] for line in lines if line["rate"] == rate) for rate in rates
        ]
        axes.plot(rates, means, color=light(colour), lw=2.4)
        ends.append(Label(means[-1], words, light(colour)))
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 4]
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.margins(x=0)
    canvas.heads(axes, "relative error of sums", "rate: share of boundary rows that are sent")
    canvas.label_ends(axes, ends)


ERRORS = {
    "importance": ("importance draws", "c0"),
    "p=0.1, ": ("uniform, pipeline, int8", "c7"),
    "p=": ("uniform draws", "c2"),
    "cache": ("halo cache", "c3"),
    "pipeline": ("pipeline", "c4"),
    "": ("bf16, int8", "c6"),
}
"""How settings' names begin, what they are called, and their colour."""


def compared_errors(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each fixed setting of each cell beside auto's smallest error at no more bytes, if there is one."""
    rows = []
    for line in lines:
        auto = [tuple(pair) for name, pair in line["found"].items() if name.startswith("auto")]
        for name, (sent, error) in line["found"].items():
            if not name.startswith("auto"):
                within = [own for bytes_sent, own in auto if bytes_sent <= 1.02 * sent]
                share = sent / line["exact_bytes"]
                cell = {"graph": line["graph"], "cut": line["cut"], "setting": name}
                rows.append(cell | {"share": share, "error": error, "auto": min(within, default=None)})
    return rows


def error_picture(rows: Sequence[dict[str, Any]]) -> Chart:
    """Each setting's error over auto's at no more bytes: a dot for a setting in a graph and cut, above 1."""
    compared = [row for row in rows if row["auto"]]
    middle = statistics.median(row["error"] / row["auto"] for row in compared)
    return Chart(
        name="error_per_byte",
        title=f"At the same bytes a fixed setting's error is {middle:.1f} times auto's in the median",
        draw=functools.partial(_draw_error_ratios, rows=compared),
        height=330,
    )


def _draw_error_ratios(canvas: Canvas, *, rows: Sequence[dict[str, Any]]) -> None:
    axes = canvas.axes(top=60)
    axes.set(xscale="log", yscale="log")
    kinds = {row["setting"]: next(kind for kind in ERRORS if row["setting"].startswith(kind)) for row in rows}
    for kind, (_, colour) in ERRORS.items():
        chosen = [row for row in rows if kinds[row["setting"]] == kind]
        shares, ratios_ = [row["share"] for row in chosen], [row["error"] / row["auto"] for row in chosen]
        axes.plot(shares, ratios_, "o", ms=4, alpha=0.7, color=light(colour), mew=0)
    axes.axhline(1.0, color=light("muted"), lw=1.2)
    ticks = [0.01, 0.03, 0.1, 0.3, 1]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    highest = max(row["error"] / row["auto"] for row in rows)
    marks = [mark for mark in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if mark <= 1.5 * highest]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks], minor=False)
    axes.minorticks_off()
    canvas.heads(axes, "error of sums, over auto's", "bytes, of those of an exact epoch")
    canvas.legend([(words, light(colour)) for words, colour in ERRORS.values()])
