"""The pictures of the records: each says one thing, and its title is what it says.

    python -m benchmarks.pictures          draws all of them again from results/*.json and *.jsonl

Drawn with the charts of `bnsgcn report`, so that pages and records look alike.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.measure import COLOURS, RESULTS, Spread, ratios, read_runs, round_medians
from launch.report.bar_charts import Stack, draw_bars, height_of
from launch.report.canvas import Canvas, Chart, Label, save_figures
from launch.report.palette import light

Run = dict[str, Any]
METHODS_TOGETHER = "importance p=0.1, pipeline, window 10, int8"
SETTINGS_TOGETHER = "p=0.1, pipeline, smoothed, int8"
SHOWN = {
    "int8": "int8 on the wire",
    "int4": "int4 on the wire",
    "importance p=0.1": "importance draws, rate 0.1",
    "p=0.1": "uniform draws, rate 0.1",
    "cache p=0.1": "halo cache, rate 0.1",
    "p=0": "nothing sent",
    "pipeline": "pipeline",
    "pipeline, window 10": "pipeline, smoothed",
    METHODS_TOGETHER: "rate 0.1, pipeline, int8",
}
"""Methods of the study of scores that its picture has, and what it calls them."""
JUDGED = {"int8": "int8", "importance p=0.1": "importance draws of a tenth", "pipeline": "the pipeline"}
"""Of these its title tells."""
CONTESTANTS = {
    "pyg": "PyG",
    "dgl": "DGL",
    "dgl-our-order": "DGL, our node order",
    "ours-1": "ours, 1 worker",
    "ours-2": "ours, 2 workers",
    "ours-2-pipeline": "ours, 2, pipeline",
    "ours-2-bf16": "ours, 2, bf16 products",
    "limit": "sums and products alone",
}
LINK = "1 Gbit/s"


def save(chart: Chart) -> str:
    """Write results/NAME.png; returns the file's name for `write_record`."""
    from PIL import Image  # comes with matplotlib

    (path,) = save_figures([chart], RESULTS, ("png",))
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    return path.name


# ---- scores ----


def scores_picture(runs: Sequence[Run], name: str) -> Chart:
    """Each method's difference from exact training, in points: a dot for a graph and cut, mean over seeds."""
    exact = {(run["graph"], run["cut"], run["seed"]): run for run in runs if run["method"] == "exact"}
    rows = [(words, *_cells(runs, exact, method)) for method, words in SHOWN.items()]
    rows = [row for row in rows if row[1]]
    rows.sort(key=lambda row: -statistics.fmean(value for _, value in row[1]))
    costs = {words: -statistics.fmean(value for _, value in cells) for words, cells, _ in rows}
    said = [
        f"{words} {max(0.0, costs[SHOWN[name]]):.1f}"
        for name, words in JUDGED.items()
        if SHOWN[name] in costs
    ]
    return Chart(
        name=name,
        title=f"Points of test score that are lost in the mean: {', '.join(said)}",
        draw=functools.partial(_draw_cells, rows=rows),
        height=height_of(len(rows)) + 40,
    )


def _cells(
    runs: Sequence[Run], exact: dict[tuple[str, str, int], Run], method: str
) -> tuple[list[tuple[str, float]], float]:
    """(cut, points against exact) of every graph and cut, and the share of its bytes that is sent."""
    cells: dict[tuple[str, str], list[float]] = {}
    shares = []
    for run in runs:
        other = exact.get((run["graph"], run["cut"], run["seed"]))
        if run["method"] == method and other is not None:
            cells.setdefault((run["graph"], run["cut"]), []).append(100 * (run["test"] - other["test"]))
            shares.append(run["sent_bytes_per_epoch"] / other["sent_bytes_per_epoch"])
    found = [(cut, statistics.fmean(values)) for (_, cut), values in cells.items()]
    return found, statistics.median(shares) if shares else math.nan


def _draw_cells(canvas: Canvas, *, rows: Sequence[tuple[str, list[tuple[str, float]], float]]) -> None:
    ends = [f"{100 * share:.0f} % of the bytes" for *_, share in rows]
    names = [words for words, *_ in rows]
    axes = canvas.axes(left=canvas.room(names) + 12, right=canvas.room(ends) + 14, top=34)
    axes.axvspan(-0.5, 0.5, color=light("grid"), alpha=0.7, lw=0)
    axes.axvline(0, color=light("muted"), lw=1)
    kinds = ((False, "METIS cut", "c0"), (True, "random cut", "c1"))
    for place, (_, cells, _) in enumerate(rows):
        for random, _, colour in kinds:
            values = [value for cut, value in cells if cut.startswith("random") == random]
            shift = 0.14 if random else -0.14
            axes.plot(
                values, [place + shift] * len(values), "o", color=light(colour), ms=5, alpha=0.75, mew=0
            )
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    row_names(canvas, axes, names, ends)
    axes.grid(visible=False)
    axes.set_xlabel("points of test score against exact training", color=light("muted"), fontsize=canvas.font)
    canvas.legend([(words, light(colour)) for _, words, colour in kinds])


def row_names(canvas: Canvas, axes: Any, names: Sequence[str], ends: Sequence[str] = ()) -> None:
    """Words to the left of the rows, and to the right."""
    axes.set_yticks([])
    for words, edge, shift, side in ((names, 0, -8, "right"), (ends, 1, 8, "left")):
        for place, text in enumerate(words):
            axes.annotate(
                *(text, (edge, place)),
                **{
                    "xycoords": ("axes fraction", "data"),
                    "xytext": (shift, 0),
                    "textcoords": "offset points",
                },
                **{"ha": side, "va": "center", "fontsize": canvas.font, "annotation_clip": False},
            )


# ---- time ----


def epoch_picture(results: dict[str, Any]) -> Chart:
    """Seconds of an epoch of every contestant, a panel a workload."""
    panels = {
        workload: {
            name: Spread.of(round_medians(result["rounds"][name])).median
            for name in CONTESTANTS
            if name in result["rounds"]
        }
        for workload, result in results.items()
    }
    said = [
        f"{ratios(rounds['ours-2'], rounds['dgl']).median:.2f} ({workload})"
        for workload, rounds in ((workload, result["rounds"]) for workload, result in results.items())
        if {"ours-2", "dgl"} <= set(rounds)
    ]
    title = (
        f"Two workers of one thread take {' and '.join(said)} of DGL's epoch"
        if said
        else "Seconds of an epoch"
    )
    count = max(map(len, panels.values()))
    return Chart(
        name="epoch",
        title=title,
        draw=functools.partial(_draw_panels, panels=panels, x="seconds an epoch", digits=2),
        height=height_of(count) + 14,
    )


def _draw_panels(canvas: Canvas, *, panels: dict[str, dict[str, float]], x: str, digits: int) -> None:
    """Bars of each panel, side by side, names at the left of the first."""
    names = [CONTESTANTS[name] for name in next(iter(panels.values()))]
    left = canvas.room(names) + 12
    wide = (canvas.width - left + 12) / len(panels)
    for number, (panel, values) in enumerate(panels.items()):
        begin = left + number * wide
        axes = canvas.axes(left=begin, right=canvas.width - begin - wide + 52, top=26)
        bars = list(values.values())
        ours = ["c0" if name.startswith("ours") else "quiet" for name in values]
        axes.barh(range(len(bars)), bars, height=0.62, color=[light(colour) for colour in ours])
        for place, value in enumerate(bars):
            axes.annotate(
                f"{value:.{digits}f}",
                (value, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=canvas.font,
                annotation_clip=False,
            )
        axes.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, max(bars)))
        axes.grid(visible=False)
        canvas.ticks(axes, x=4)
        axes.set_yticks([])
        axes.set_title(panel, loc="left", fontsize=canvas.font, color=light("muted"))
        axes.set_xlabel(x, color=light("muted"), fontsize=canvas.font)
        if number == 0:
            row_names(canvas, axes, names)


def link_picture(results: dict[str, Any]) -> Chart:
    """Epoch over a slow link against the same without a limit."""
    workloads = list(results)
    settings = list(results[workloads[0]][LINK])
    values = {
        workload: [
            ratios(results[workload][LINK][name], results[workload]["no limit"][name]).median
            for name in settings
        ]
        for workload in workloads
    }
    exact, piped = (
        [f"{values[workload][settings.index(name)]:.2f}" for workload in workloads]
        for name in ("exact", "pipeline")
    )
    title = (
        f"A link of {LINK} makes the exact epoch {' and '.join(exact)} times as long, "
        f"the pipeline's {' and '.join(piped)} times"
    )
    return Chart(
        name="link",
        title=title,
        draw=functools.partial(_draw_link, settings=settings, values=values),
        height=height_of(len(settings)) + 40,
    )


def _draw_link(canvas: Canvas, *, settings: Sequence[str], values: dict[str, list[float]]) -> None:
    names = ["nothing sent (p=0)" if name == "p=0" else name for name in settings]
    axes = canvas.axes(left=canvas.room(names) + 12, right=50, top=34)
    axes.axvline(1, color=light("muted"), lw=1)
    for place in range(len(settings)):
        row = [of[place] for of in values.values()]
        axes.plot([1, max(row)], [place, place], color=light("grid"), lw=2, zorder=0)
    for colour, of in zip(("c0", "c1"), values.values(), strict=False):
        axes.plot(of, range(len(settings)), "o", color=light(colour), ms=8, mew=0)
        for place, value in enumerate(of):
            if value > 1.03:
                axes.annotate(
                    f"{value:.2f}",
                    (value, place),
                    xytext=(8, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=canvas.font,
                )
    axes.set(ylim=(len(settings) - 0.4, -0.6))
    axes.margins(x=0.08)
    axes.grid(visible=False)
    row_names(canvas, axes, names)
    axes.set_xlabel(f"epoch over {LINK} / epoch without a limit", color=light("muted"), fontsize=canvas.font)
    canvas.legend([(workload, light(c)) for workload, c in zip(values, ("c0", "c1"), strict=False)])


# ---- memory and errors ----


def memory_picture(raw: dict[str, Any], settled: int) -> Chart:
    """Growth of the larger worker after it has settled, by setting."""
    called = {SETTINGS_TOGETHER: "p=0.1, pipeline, int8"}
    growth = {called.get(name, name): found["growth_bytes"] / 1e6 for name, found in raw.items()}
    epochs = len(next(iter(raw.values()))["rss_bytes"])
    size = statistics.median(found["rss_bytes"][-1] for found in raw.values()) / 1e6
    most = max(growth.values())
    return Chart(
        name="memory",
        title=f"A worker of some {size:.0f} MB grows by at most {most:.1f} MB in {epochs - settled} epochs",
        draw=lambda canvas: draw_bars(
            canvas,
            list(growth),
            [Stack(label="growth", colour="c5", values=np.maximum(0, list(growth.values())))],
            [f"{value:+.1f} MB" for value in growth.values()],
            x=f"MB more after epoch {epochs} than after epoch {settled}",
        ),
        height=height_of(len(growth)),
    )


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


# ---- all of them again ----


def _raw(name: str) -> Any:
    return _whole(json.loads((RESULTS / f"{name}.json").read_text())["raw"])


def _whole(value: Any) -> Any:
    """What a record leaves out because a process says it: an epoch is that of its slowest process."""
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if "processes" in value:
        return max(value["processes"], key=lambda process: process.get("epoch_s", 0.0)) | value
    return {key: _whole(entry) for key, entry in value.items()}


ALL: dict[str, Callable[[], Chart]] = {
    "accuracy": lambda: scores_picture(read_runs(RESULTS / "accuracy.jsonl"), "accuracy"),
    "accuracy_long": lambda: scores_picture(read_runs(RESULTS / "accuracy_long.jsonl"), "accuracy_long"),
    "epoch": lambda: epoch_picture(_raw("epoch")),
    "link": lambda: link_picture(_raw("link")),
    "memory": lambda: memory_picture(_raw("memory"), 100),
    "minesweeper": lambda: scores_picture(read_runs(RESULTS / "minesweeper.jsonl"), "minesweeper"),
    "variance": lambda: variance_picture(_raw("variance")),
}


def main() -> None:
    for name, make in ALL.items():
        if (RESULTS / f"{name}.json").exists():
            chart = make()
            print(f"{save(chart)}: {chart.title}")


if __name__ == "__main__":
    main()
