"""The figures of several runs: how groups of them, alike but for their seed, differ in score, time and bytes.

E epochs
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from bnsgcn.record.recorded import RecordedRun
from bnsgcn.show.units import duration, size
from launch.report.bar_charts import Stack, draw_bars, height_of
from launch.report.canvas import Canvas, Chart
from launch.report.grouped import Group, Spread
from launch.report.line_charts import (
    Line,
    draw_lines,
    needs_log,
    short_number,
    unit_of_bytes,
    unit_of_seconds,
)
from launch.report.palette import SERIES, light
from launch.report.run_charts import TIMES, metric_of
from launch.report.thinning import Floats

MOST_COLOURS = 7
"""Groups with a colour and a name; the others, of lower scores, are grey."""
MOST_ROWS = 24
QUIET = "quiet"

OfRun = Callable[[RecordedRun], Floats]


def compared(groups: Sequence[Group]) -> list[Chart]:
    """What can be drawn of several runs."""
    with_epochs = [group for group in groups if any(run.history for run in group.runs)]
    if not with_epochs:
        return []
    found = [
        scores_chart(with_epochs),
        curve(with_epochs, "score_by_epoch", "val_score", _epochs, "epoch"),
        curve(with_epochs, "score_by_time", "val_score", _seconds, "seconds"),
        curve(with_epochs, "score_by_bytes", "val_score", _sent, "bytes"),
        curve(with_epochs, "loss_by_epoch", "loss", _epochs, "epoch"),
        times_chart(with_epochs),
    ]
    return [chart for chart in found if chart is not None]


def _epochs(run: RecordedRun) -> Floats:
    return run.of("epoch") + 1


def _seconds(run: RecordedRun) -> Floats:
    """Seconds of training until the end of each epoch; evaluation is not in them."""
    return np.asarray(np.nancumsum(run.of("time/epoch_s")), dtype=np.float64)


def _sent(run: RecordedRun) -> Floats:
    return np.asarray(np.nancumsum(run.of("comm/sent_bytes")), dtype=np.float64)


def ranked(groups: Sequence[Group]) -> list[Group]:
    """The best mean validation score first, then as they were."""
    means = [group.spread("val_score").mean for group in groups]
    order = sorted(
        range(len(groups)), key=lambda place: -means[place] if math.isfinite(means[place]) else math.inf
    )
    return [groups[place] for place in order]


def colours_of(groups: Sequence[Group]) -> dict[str, str]:
    """A colour for each of the best groups, by label, the same in all figures."""
    best = [group.label for group in ranked(groups)][: MOST_COLOURS if len(groups) > len(SERIES) else None]
    return {
        group.label: SERIES[best.index(group.label)] if group.label in best else QUIET for group in groups
    }


def curve(groups: Sequence[Group], name: str, metric: str, along: OfRun, unit: str) -> Chart | None:
    """One metric of all runs, along epochs, seconds or bytes."""
    colours = colours_of(groups)
    runs = [(group, run) for group in reversed(ranked(groups)) for run in group.runs if run.history]
    most = max(float(along(run)[-1]) for _, run in runs)
    if not most > 0:
        return None
    scale, words = _axis(unit, most)
    lines = []
    for group, run in runs:
        y, colour = run.of(metric), colours[group.label]
        if not np.isfinite(y).any():
            continue
        label = group.label if colour != QUIET and len(groups) > 1 else ""
        alone = len(group.runs) == 1 or len(groups) == 1
        lines.append(
            Line(x=along(run) / scale, y=y, colour=colour, label=label, strong=alone and colour != QUIET)
        )
    if not lines:
        return None
    log = metric == "loss" and needs_log(np.concatenate([line.y for line in lines]))
    shown = "training loss" if metric == "loss" else f"validation {metric_of(runs[-1][1])}"
    low = -math.inf if metric == "loss" else _low(lines)
    grey = " Grey: all others." if QUIET in colours.values() else ""
    thin = " A line a seed." if any(len(group.runs) > 1 for group in groups) else ""
    return Chart(
        name=name,
        title=_title(groups, metric, unit, shown, along),
        draw=functools.partial(
            draw_lines,
            lines=lines,
            y=shown + (", logarithmic" if log else ""),
            x=words,
            log=log,
            low=low,
            whole=unit == "epoch",
        ),
        note=f"{thin}{grey}".strip(),
        height=280 if len(groups) < 5 else 320,
    )


def _low(lines: Sequence[Line]) -> float:
    """Where an axis of scores begins: most of them lie close together, above those of the first epochs."""
    known = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    return float(np.percentile(known, 20)) if known.size >= 5 * len(lines) else -math.inf


def _axis(unit: str, most: float) -> tuple[float, str]:
    """What an axis that ends at `most` is divided by, and its words."""
    if unit == "seconds":
        scale = unit_of_seconds(most)
        return scale.size, f"{scale.name} of training"
    if unit == "bytes":
        scale = unit_of_bytes(most)
        return scale.size, f"{scale.name} sent by all ranks"
    return 1.0, unit


def _title(groups: Sequence[Group], metric: str, unit: str, shown: str, along: OfRun) -> str:
    """What a chart of curves shows, in a sentence where there is one to say."""
    plain = {"epoch": "by epoch", "seconds": "by time", "bytes": "by bytes sent"}[unit]
    default = f"{shown.capitalize()} {plain}"
    if len(groups) < 2 or metric == "loss":
        return default
    if unit == "epoch":
        best = ranked(groups)[0]
        return f"{best.label} comes to the highest {shown}, {short_number(best.spread('val_score').mean)}"
    bar = _reached_by_all(groups)
    costs = {group.label: _cost(group, bar, along) for group in groups}
    known = {label: cost for label, cost in costs.items() if math.isfinite(cost)}
    if len(known) < 2:
        return default
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    said = duration if unit == "seconds" else size
    return (
        f"{least} comes to {short_number(bar)} after {said(known[least])}, {most} after {said(known[most])}"
    )


def _reached_by_all(groups: Sequence[Group]) -> float:
    """A score just below what every group comes to."""
    tops = [
        float(np.nanmax(run.of("val_score")))
        for group in groups
        for run in group.runs
        if np.isfinite(run.of("val_score")).any()
    ]
    return math.floor(min(tops) * 1000) / 1000 if tops else math.nan


def _cost(group: Group, score: float, along: OfRun) -> float:
    """What a group's runs spend, in the mean, until they first have `score`."""
    spent = []
    for run in group.runs:
        reached = np.flatnonzero(np.nan_to_num(run.of("val_score"), nan=-math.inf) >= score)
        if not reached.size:
            return math.nan
        spent.append(float(along(run)[reached[0]]))
    return float(np.mean(spent)) if spent else math.nan


def scores_chart(groups: Sequence[Group]) -> Chart | None:
    """Test score of every group, mean and deviation; of a single group, of every seed."""
    rows = [(group.label, group.spread("test_score")) for group in ranked(groups)]
    if len(groups) == 1:
        return None
    rows = [(label, spread) for label, spread in rows if math.isfinite(spread.mean)][:MOST_ROWS]
    if len(rows) < 2:
        return None
    metric = metric_of(groups[0].runs[0])
    top, bottom = max(rows, key=lambda row: row[1].mean), min(rows, key=lambda row: row[1].mean)
    gap = top[1].mean - bottom[1].mean
    deviations = [spread.std for _, spread in rows if math.isfinite(spread.std)]
    title = f"{top[0]} has the best test {metric}, {top[1].mean:.4f}; {bottom[0]} is {gap:.4f} below"
    if deviations and gap < max(deviations):
        title = f"Test {metric} differs by no more ({gap:.4f}) than seeds do ({max(deviations):.4f})"
    many = any(spread.count > 1 for _, spread in rows)
    return Chart(
        name="test_scores",
        title=title,
        draw=functools.partial(_draw_scores, rows=rows, colours=colours_of(groups), metric=metric),
        note="Of the best checkpoint by validation."
        + (" Bars: a sample standard deviation over seeds." if many else ""),
        height=height_of(len(rows)),
    )


def _draw_scores(
    canvas: Canvas, *, rows: Sequence[tuple[str, Spread]], colours: dict[str, str], metric: str
) -> None:
    left = canvas.room_beside([label for label, _ in rows])
    ends = [f"{spread.mean:.4f}" for _, spread in rows]
    axes = canvas.axes(left=left, right=canvas.room(ends) + 14, top=12)
    for place, (label, spread) in enumerate(rows):
        mean, std = spread.mean, spread.std
        colour = light(colours[label])
        if math.isfinite(std):
            axes.plot(
                [mean - std, mean + std], [place, place], color=colour, lw=5, alpha=0.4, solid_capstyle="butt"
            )
        axes.plot([mean], [place], "o", color=colour, markersize=7)
        words = (
            label
            if canvas.room([label]) <= left - 12
            else f"{label[: int((left - 20) / (canvas.font * 0.56))]}…"
        )
        axes.annotate(
            *(words, (0, place)),
            **{
                "xycoords": ("axes fraction", "data"),
                "xytext": (-8, 0),
                "textcoords": "offset points",
                "ha": "right",
                "va": "center",
                "fontsize": canvas.font,
                "color": light("ink"),
                "annotation_clip": False,
                "parse_math": False,
            },
        )
        axes.annotate(
            *(ends[place], (1, place)),
            **{
                "xycoords": ("axes fraction", "data"),
                "xytext": (6, 0),
                "textcoords": "offset points",
                "va": "center",
                "fontsize": canvas.font,
                "color": light("ink"),
                "annotation_clip": False,
            },
        )
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.margins(x=0.08)
    canvas.ticks(axes, x=5)
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    axes.set_xlabel(f"test {metric}", color=light("muted"), fontsize=canvas.font, labelpad=4)


def times_chart(groups: Sequence[Group]) -> Chart | None:
    """Where the time of an epoch goes, group by group."""
    rows = [group for group in groups if group.spread("epoch_s_median").mean > 0][:MOST_ROWS]
    if len(groups) < 2 or len(rows) < 2:
        return None
    totals = [group.spread("epoch_s_median").mean for group in rows]
    unit = unit_of_seconds(max(totals))
    pieces = [
        Stack(
            label=words,
            colour=colour,
            values=np.array([group.spread(f"{name.removeprefix('time/')}_median").mean for group in rows])
            / unit.size,
        )
        for words, name, colour in TIMES
    ]
    fast, slow = int(np.argmin(totals)), int(np.argmax(totals))
    said = [f"{duration(totals[place])} with {rows[place].label}" for place in (fast, slow)]
    title = f"An epoch takes {', '.join(said)}"
    names, ends = [group.label for group in rows], [duration(total) for total in totals]
    return Chart(
        name="epoch_times",
        title=title,
        draw=lambda canvas: draw_bars(
            canvas, names, pieces, ends, x=f"{unit.name} an epoch (median, slowest rank)"
        ),
        height=height_of(len(rows)) + 16,
    )
