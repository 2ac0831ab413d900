"""The figures of one run: each shows one thing and says it in its title.

E epochs   P parts
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence

import numpy as np

from bnsgcn.record.recorded import RecordedRun
from bnsgcn.show.units import duration, short, size
from launch.report.bar_charts import Stack, draw_bars, draw_heat, height_of
from launch.report.canvas import Canvas, Chart
from launch.report.findings import median, of_ranks, percent, steady
from launch.report.line_charts import Line, draw_lines, needs_log, unit_of_bytes, unit_of_seconds
from launch.report.palette import light
from launch.report.thinning import Floats, binned
from partition.quality import Quality

TIMES = (
    ("compute", "time/compute_s", "c0"),
    ("halo wait", "time/halo_wait_s", "c1"),
    ("reduce", "time/reduce_s", "c3"),
)
"""What an epoch's time is made of: words, metric, colour. `draw_s` is part of compute."""
LOADS = (
    ("arcs", "arcs"),
    ("inner nodes", "inner_nodes"),
    ("training nodes", "train_nodes"),
    ("rows sent", "send_rows"),
    ("rows received", "recv_rows"),
)
MOST_BINS = 120
MOST_BARS = 16
MOST_CELLS = 32
_LAYER = re.compile(r"comm/layer_(\d+)_feature_bytes")


def charts_of(run: RecordedRun, quality: Quality | None) -> list[Chart]:
    """What can be drawn of a run; `quality` of its parts, where they still lie there."""
    if not run.history:
        return []
    found = [score_chart(run), loss_chart(run), time_chart(run), rank_chart(run), bytes_chart(run)]
    found += [memory_chart(run), error_chart(run), age_chart(run)]
    if quality is not None and quality.parts > 1:
        found += [volume_chart(quality), balance_chart(quality)]
    return [chart for chart in found if chart is not None]


def metric_of(run: RecordedRun) -> str:
    """What the run's scores are."""
    return str(run.figures.get("metric") or run.facts.config.metric or "score")


# ---- how it went ----


def score_chart(run: RecordedRun) -> Chart | None:
    """Validation and test score of the epochs that were evaluated."""
    x = run.of("epoch") + 1
    scores = [("validation", run.of("val_score"), "c0"), ("test", run.of("test_score"), "c1")]
    lines = [Line(x=x, y=y, colour=colour, label=name) for name, y, colour in scores if np.isfinite(y).any()]
    if not lines:
        return None
    metric, best, val = metric_of(run), run.figure("best_epoch"), run.figure("val_score")
    title = f"{metric.capitalize()} by epoch"
    if math.isfinite(best) and math.isfinite(val):
        title = f"Validation {metric} is best after epoch {best + 1:.0f}: {val:.4f}"
    return Chart(name="score", title=title, draw=lambda canvas: draw_lines(canvas, lines, y=metric))


def loss_chart(run: RecordedRun) -> Chart | None:
    """Training loss of all nodes."""
    x, loss = run.of("epoch") + 1, run.of("loss")
    known = loss[np.isfinite(loss)]
    if not known.size:
        return None
    log = needs_log(loss)
    lines = [Line(x=x, y=loss, colour="c0")]
    title = f"The loss went from {known[0]:.3g} to {known[-1]:.3g}"
    y = "training loss" + (", logarithmic" if log else "")
    return Chart(name="loss", title=title, draw=lambda canvas: draw_lines(canvas, lines, y=y, log=log))


# ---- time ----


def time_chart(run: RecordedRun) -> Chart | None:
    """Where the time of an epoch goes, epoch by epoch."""
    rows = [np.nan_to_num(run.of(name)) for _, name, _ in TIMES]
    whole = sum(median(run.of(name)) for _, name, _ in TIMES)
    if not whole > 0:
        return None
    shares = ", ".join(f"{words} {percent(median(run.of(name)) / whole)}" for words, name, _ in TIMES)
    edges, heights = binned(run.of("epoch") + 1, rows, MOST_BINS)
    per_bin = round(rows[0].size / heights[0].size)
    top = 1.25 * float(np.percentile(np.sum([steady(row) for row in rows], axis=0), 99))
    cut = float(np.sum(heights, axis=0).max()) > top
    note = "The slowest rank of each epoch."
    note += f" A step is the median of some {per_bin} epochs." if per_bin > 1 else ""
    note += " Higher epochs, the first as a rule, are cut off." if cut else ""
    return Chart(
        name="time",
        title=f"An epoch takes {duration(median(run.of('time/epoch_s')))}: {shares}",
        draw=functools.partial(_draw_times, edges=edges, heights=heights, top=top),
        note=note,
    )


def _draw_times(canvas: Canvas, *, edges: Floats, heights: Sequence[Floats], top: float) -> None:
    unit = unit_of_seconds(top)
    axes = canvas.axes(top=26 + canvas.legend_height([words for words, *_ in TIMES]))
    below = np.zeros(edges.size)
    for (_, _, colour), row in zip(TIMES, heights, strict=True):
        above = below + np.append(row, row[-1]) / unit.size
        axes.fill_between(edges, below, above, step="post", color=light(colour), linewidth=0)
        below = above
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top / unit.size))
    canvas.ticks(axes, whole=True)
    canvas.heads(axes, unit.name, "epoch")
    canvas.legend([(words, light(colour)) for words, _, colour in TIMES])


def rank_chart(run: RecordedRun) -> Chart | None:
    """The same, rank by rank."""
    if len(run.ranks) < 2:
        return None
    rows = {name: of_ranks(run, name) for _, name, _ in TIMES}
    waits = rows["time/halo_wait_s"] + rows["time/reduce_s"]
    total = waits + rows["time/compute_s"]
    if not np.isfinite(total).all() or not (total > 0).all():
        return None
    idle = int((waits / total).argmax())
    order = _ranks_shown(waits / total)
    unit = unit_of_seconds(float(total.max()))
    pieces = [Stack(label=words, colour=c, values=rows[name][order] / unit.size) for words, name, c in TIMES]
    names, ends = [f"rank {rank}" for rank in order], [duration(float(total[rank])) for rank in order]
    note = (
        f"The {len(order)} of {len(total)} ranks that wait most and least." if len(order) < len(total) else ""
    )
    return Chart(
        name="ranks",
        title=f"Rank {idle} waits most, {percent(float((waits / total)[idle]))} of its epoch",
        draw=lambda canvas: draw_bars(canvas, names, pieces, ends, x=unit.name),
        note=f"Medians of each rank. {note}".strip(),
        height=height_of(len(order)) + 16,
    )


def _ranks_shown(by: Floats) -> list[int]:
    """All ranks, or as many of the largest as of the smallest."""
    if by.size <= MOST_BARS:
        return list(range(by.size))
    order = [int(rank) for rank in np.argsort(by, kind="stable")]
    return sorted(order[: MOST_BARS // 2] + order[-MOST_BARS // 2 :])


# ---- bytes and memory ----


def layers_of(run: RecordedRun) -> list[int]:
    """The layers whose bytes were recorded."""
    found = (_LAYER.fullmatch(name) for name in run.history)
    return sorted(int(match[1]) for match in found if match)


def bytes_of(run: RecordedRun) -> list[tuple[str, float, float]]:
    """Median bytes of an epoch, all ranks: (layer, features, gradients); one row where none is by layer."""
    named = [
        (f"layer {layer}", f"comm/layer_{layer}_feature_bytes", f"comm/layer_{layer}_gradient_bytes")
        for layer in layers_of(run)
    ]
    named = named or [("all layers", "comm/sent_feature_bytes", "comm/sent_gradient_bytes")]
    return [(words, median(run.of(forward)), median(run.of(back))) for words, forward, back in named]


def bytes_chart(run: RecordedRun) -> Chart | None:
    """Bytes of an epoch by layer and direction."""
    rows = bytes_of(run)
    total = sum(forward + back for _, forward, back in rows)
    if run.facts.parts < 2 or not total > 0:
        return None
    sums = [forward + back for _, forward, back in rows]
    most = int(np.argmax(sums))
    unit = unit_of_bytes(max(sums))
    title = f"{size(total)} travel in an epoch"
    if len(rows) > 1:
        title += f", {percent(sums[most] / total)} of them for {rows[most][0]}"
    shown = rows if len(rows) <= MOST_BARS else sorted(rows, key=lambda row: -row[1] - row[2])[:MOST_BARS]
    pieces = [
        Stack(label="rows, forward", colour="c0", values=np.array([row[1] for row in shown]) / unit.size),
        Stack(label="gradients, back", colour="c1", values=np.array([row[2] for row in shown]) / unit.size),
    ]
    names, ends = [row[0] for row in shown], [size(row[1] + row[2]) for row in shown]
    return Chart(
        name="bytes",
        title=title,
        draw=lambda canvas: draw_bars(canvas, names, pieces, ends, x=unit.name),
        note="Payload of all ranks, median epoch."
        + (" A layer that sends nothing reads an aggregate made once." if 0 in sums else ""),
        height=height_of(len(shown)) + 16,
    )


def memory_chart(run: RecordedRun) -> Chart | None:
    """The largest memory of every rank beside the least that training needs."""
    held = [rank.get("memory/peak_rss_bytes", np.zeros(0)) for rank in run.ranks]
    peaks = np.array([np.max(values[np.isfinite(values)], initial=-math.inf) for values in held])
    if not peaks.size or not np.isfinite(peaks).all():
        return None
    least = run.figure("least_rss_bytes")
    order = _ranks_shown(peaks)
    unit = unit_of_bytes(float(peaks.max()))
    pieces = [Stack(label="memory", colour="c5", values=peaks[order] / unit.size)]
    worst = int(peaks.argmax())
    title = f"Rank {worst} used most memory: {size(float(peaks[worst]))}"
    mark = None
    if least > 0:
        times = f"{peaks.max() / least:.2f} times the least needed"
        title = f"The largest worker used {size(float(peaks.max()))}, {times}"
        mark = (least / unit.size, f"least needed {size(least)}")
    names, ends = [f"rank {rank}" for rank in order], [size(float(peaks[rank])) for rank in order]
    return Chart(
        name="memory",
        title=title,
        draw=lambda canvas: draw_bars(canvas, names, pieces, ends, x=unit.name, mark=mark),
        note="Largest resident set of each worker. Least: what the largest one's epoch needs by its sizes.",
        height=height_of(len(order)) + 8,
    )


# ---- errors of sampling and staleness ----


def error_chart(run: RecordedRun) -> Chart | None:
    """How far sampled sums and stale rows are from the exact ones, where it was measured."""
    x = run.of("epoch") + 1
    kinds = (("sampled sums", "sampling/relative_error", "c4"), ("stale rows", "stale/relative_gap", "c3"))
    found = [(words, run.of(name), colour) for words, name, colour in kinds]
    found = [(words, y, colour) for words, y, colour in found if np.nan_to_num(y).any()]
    if not found:
        return None
    lines = [Line(x=x, y=y, colour=colour, label=words) for words, y, colour in found]
    said = ", ".join(f"{words} are off by {percent(median(y))}" for words, y, _ in found)
    return Chart(
        name="errors",
        title=said.capitalize(),
        draw=lambda canvas: draw_lines(canvas, lines, y="relative error"),
        note="Medians against an exact exchange of the same epoch, in the lowest layer that exchanges.",
    )


def age_chart(run: RecordedRun) -> Chart | None:
    """How old the rows of halo slots are, where it was measured."""
    age = run.of("stale/mean_slot_age_epochs")
    known = age[np.isfinite(age)]
    if not known.size or known.max() == known[known.size // 4 :].min():  # as old all the time
        return None
    lines = [Line(x=run.of("epoch") + 1, y=age, colour="c3")]
    title = f"Halo rows are {median(age):.1f} epochs old in the mean"
    return Chart(name="age", title=title, draw=lambda canvas: draw_lines(canvas, lines, y="mean age, epochs"))


# ---- parts ----


def volume_chart(quality: Quality) -> Chart:
    """Rows from part to part."""
    volume = quality.volume.astype(float)
    group = -(-quality.parts // MOST_CELLS)
    if group > 1:
        padded = np.zeros((-(-quality.parts // group) * group,) * 2)
        padded[: quality.parts, : quality.parts] = volume
        count = padded.shape[0] // group
        volume = padded.reshape(count, group, count, group).sum(axis=(1, 3))
    owner, reader = np.unravel_index(int(quality.volume.argmax()), quality.volume.shape)
    return Chart(
        name="volume",
        title=f"Part {owner} sends part {reader} most: {short(int(quality.volume.max()))} of "
        f"{short(quality.total_volume)} rows a layer",
        draw=lambda canvas: draw_heat(canvas, volume, y="owner", x="reader", group=group),
        note="Rows per layer at rate 1 when nothing is pruned."
        + (f" A square stands for {group} x {group} parts." if group > 1 else ""),
        height=330,
    )


def balance_chart(quality: Quality) -> Chart:
    """The largest part's loads over the mean's."""
    values = np.array([quality.worst_over_mean[key] for _, key in LOADS])
    names, worst = [words for words, _ in LOADS], int(values.argmax())
    part = max(quality.per_part, key=lambda each: getattr(each, LOADS[worst][1])).part
    title = f"The most uneven load is {names[worst]}: part {part} has {values[worst]:.2f} times the mean"
    if values[worst] < 1.05:
        title = "All loads are even, within 5 % of the mean"
    pieces = [Stack(label="worst", colour="c2", values=values)]
    return Chart(
        name="balance",
        title=title,
        draw=lambda canvas: draw_bars(
            canvas,
            names,
            pieces,
            [f"{v:.2f}" for v in values],
            x="largest part over mean part",
            mark=(1.0, "mean"),
        ),
        height=height_of(len(names)) + 8,
    )
