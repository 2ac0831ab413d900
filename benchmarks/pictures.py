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

from benchmarks.error_pictures import variance_picture
from benchmarks.measure import COLOURS, RESULTS, Spread, ratios, read_runs, round_medians
from launch.report.bar_charts import Stack, draw_bars, height_of
from launch.report.canvas import Canvas, Chart, save_figures
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
    "auto": "auto, for few bytes",
}
"""Methods of the study of scores that its picture has, and what it calls them."""
JUDGED = {
    "int8": "int8",
    "importance p=0.1": "importance draws of a tenth",
    "pipeline": "the pipeline",
    "auto": "auto",
}
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
    "auto": lambda: scores_picture(read_runs(RESULTS / "auto.jsonl"), "auto"),
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
