"""What a report says, whatever it is written as: a page, Markdown, a table for a program, JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from bnsgcn.record.recorded import RecordedRun
from bnsgcn.show.face import duration, number, short, size
from launch.report.canvas import Chart
from launch.report.compared_charts import compared, ranked
from launch.report.findings import Finding, findings, percent, seen_again
from launch.report.grouped import Group, Spread, grouped
from launch.report.repeated import changed, command_again
from launch.report.run_charts import LOADS, bytes_of, charts_of, metric_of
from partition.errors import UserError, printable
from partition.quality import Quality, inspect_parts
from partition.store import read_manifest

FIGURES = (
    *("metric", "val_score", "test_score", "best_epoch", "epochs", "final_loss", "parameters"),
    *("epoch_s_median", "compute_s_median", "halo_wait_s_median", "reduce_s_median"),
    *("sent_bytes_per_epoch", "peak_rss_bytes", "least_rss_bytes", "hardware"),
)
"""What a row of the table for programs has of a run's summary."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table for people."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    strong: int = -1
    """The row to look at."""
    folded: bool = False
    """Whether a page shows it on request."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """All that is said of one run, or of several."""

    title: str
    state: str
    """One line below the title."""
    tiles: Sequence[tuple[str, str, str]]
    """The figures that are looked for first: what, value, more on it."""
    findings: Sequence[Finding]
    charts: Sequence[Chart]
    sheets: Sequence[Sheet]
    command: str
    """What does the run again; empty for several."""
    gaps: Sequence[str]
    """What is not there, and why."""
    rows: Sequence[dict[str, Any]]
    """Of every run, as numbers."""
    more: dict[str, Any]
    """What JSON has besides."""


def told(runs: Sequence[RecordedRun], gaps: Sequence[str]) -> Told:
    """The report on one run, or on several."""
    return _of_one(runs[0], list(gaps)) if len(runs) == 1 else _of_several(runs, list(gaps))


def quality_of(run: RecordedRun) -> tuple[Quality | None, str]:
    """The quality of a run's parts, or why it is not known."""
    where = run.facts.parts_dir
    try:
        if read_manifest(where).digest != run.facts.digest:
            return None, f"balance of the parts: those in {where} are others now"
        return inspect_parts(where), ""
    except (UserError, OSError) as error:
        return None, f"balance of the parts: {printable(str(error))}"


def row_of(run: RecordedRun) -> dict[str, Any]:
    """One run as numbers."""
    facts = run.facts
    known = {"run": str(run.path), "state": run.state, "graph": facts.name, "parts": facts.parts}
    options = {f"option_{name}": value for name, value in facts.config.to_json().items() if name != "resume"}
    return known | {name: run.figures.get(name) for name in FIGURES} | options


# ---- one run ----


def _of_one(run: RecordedRun, gaps: list[str]) -> Told:
    quality, unknown = quality_of(run)
    gaps += [*run.gaps, *([unknown] if unknown else []), *_not_recorded(run)]
    facts = run.facts
    return Told(
        title=printable(f"{facts.config.model if 'model' not in facts.own else 'own model'} on {facts.name}"),
        state=_state(run),
        tiles=_tiles(run),
        findings=findings(run, quality),
        charts=charts_of(run, quality),
        sheets=[*_bytes_sheet(run), *_balance_sheet(quality), _options_sheet(run), _machine_sheet(run)],
        command=command_again(run),
        gaps=gaps,
        rows=[row_of(run)],
        more={
            "command": command_again(run),
            "versions": dict(facts.versions),
            "bytes_per_epoch": [
                dict(zip(("layer", "features", "gradients"), row, strict=True)) for row in bytes_of(run)
            ],
            "parts": None if quality is None else quality.to_json(),
        },
    )


def _state(run: RecordedRun) -> str:
    planned, workers = run.facts.config.epochs, run.facts.parts
    done = {"ended": "ended after", "running": "running, so far", "stopped": "stopped after"}[run.state]
    who = "1 worker" if workers == 1 else f"{workers} workers"
    early = run.state == "ended" and run.epochs < planned and run.facts.config.patience
    of = f"{run.epochs} of {planned} epochs" + (" by --patience" if early else "")
    return printable(f"{run.path} · {who} · {done} {of}")


def _tiles(run: RecordedRun) -> list[tuple[str, str, str]]:
    if not run.history:
        return []
    metric, best, figure = metric_of(run), run.figure("best_epoch"), run.figure
    epoch_s, wait = figure("epoch_s_median"), figure("halo_wait_s_median")
    least = figure("least_rss_bytes")
    val = f"validation {number(figure('val_score'))}"
    waits = f"halo wait {percent(wait / epoch_s)}" if epoch_s > 0 and math.isfinite(wait) else ""
    return [
        (f"test {metric}", number(figure("test_score")), val),
        ("best epoch", f"{best + 1:.0f}" if math.isfinite(best) else "-", f"of {run.epochs}"),
        ("epoch", duration(epoch_s), waits),
        ("sent an epoch", size(figure("sent_bytes_per_epoch")), "all ranks"),
        ("largest worker", size(figure("peak_rss_bytes")), f"least {size(least)}" if least > 0 else ""),
    ]


def _not_recorded(run: RecordedRun) -> list[str]:
    if not run.history:
        return []
    gaps = []
    if run.facts.parts > 1 and not any(name.startswith("comm/layer_") for name in run.history):
        gaps.append("bytes by layer: the run was made before they were recorded")
    if not run.facts.versions:
        gaps.append("versions: the run was made before they were recorded")
    if run.figures.get("least_rss_bytes") is None:
        why = "known at the end of a run" if run.state != "ended" else "not known of a model of your own"
        gaps.append(f"least memory: {why}")
    approximate = run.facts.config.sampling_rate < 1 or run.facts.config.pipeline
    if approximate and not run.facts.config.telemetry_every:
        gaps.append("sampling error and staleness: not measured; --telemetry-every 10 measures them")
    return gaps


def _bytes_sheet(run: RecordedRun) -> list[Sheet]:
    rows = [(words, forward, back) for words, forward, back in bytes_of(run) if math.isfinite(forward)]
    if run.facts.parts < 2 or not rows:
        return []
    cells = [[words, size(forward), size(back), size(forward + back)] for words, forward, back in rows]
    heads = ["", "rows, forward", "gradients, back", "both"]
    return [Sheet(title="Bytes of an epoch", heads=heads, rows=cells, folded=True)]


def _balance_sheet(quality: Quality | None) -> list[Sheet]:
    if quality is None:
        return []
    rows = [
        [f"part {part.part}", *(short(getattr(part, key)) for _, key in LOADS)]
        for part in quality.worst_first()
    ]
    rows.append(["worst / mean", *(f"{quality.worst_over_mean[key]:.2f}" for _, key in LOADS)])
    heads = ["", *(words for words, _ in LOADS)]
    return [Sheet(title="Parts, the worst first", heads=heads, rows=rows, strong=len(rows) - 1, folded=True)]


def _options_sheet(run: RecordedRun) -> Sheet:
    config, differ = run.facts.config, changed(run.facts.config)
    everything = [(name, value) for name, value in config.to_json().items() if name != "resume"]
    everything.sort(key=lambda row: row[0] not in differ)
    rows = [
        [name.replace("_", "-"), _plain(value), "" if name in differ else "default"]
        for name, value in everything
    ]
    rows = [[kind, str(where.get("name")), "your own"] for kind, where in run.facts.own.items()] + rows
    return Sheet(
        title=f"Options ({len(differ)} not the default)",
        heads=["option", "value", ""],
        rows=rows,
        folded=True,
    )


def _machine_sheet(run: RecordedRun) -> Sheet:
    facts = run.facts
    rows = [[name, version] for name, version in facts.versions.items()]
    rows.append(["hardware", str(run.figures.get("hardware") or "said at the end of a run")])
    parameters = run.figures.get("parameters")
    rows.append(
        ["parameters", f"{parameters:,}" if isinstance(parameters, int) else "said at the end of a run"]
    )
    rows.append(["parts", f"{facts.parts_dir} ({facts.digest[:12]})"])
    return Sheet(title="Versions, machine, parts", heads=["", ""], rows=rows)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# ---- several ----


def _of_several(runs: Sequence[RecordedRun], gaps: list[str]) -> Told:
    groups = grouped(runs)
    names = {run.path: label for run, label in zip(runs, _names(runs), strict=True)}
    gaps += [f"{names[run.path]}: {gap}" for run in runs for gap in run.gaps]
    graphs = list(dict.fromkeys(run.facts.name for run in runs))
    metrics = list(dict.fromkeys(metric_of(run) for run in runs if run.history))
    if len(graphs) > 1:
        gaps.insert(
            0, f"the runs are of {len(graphs)} graphs ({', '.join(graphs)}): do not compare their scores"
        )
    if len(metrics) > 1:
        gaps.insert(
            0, f"the runs have {len(metrics)} kinds of score ({', '.join(metrics)}): do not compare them"
        )
    known: dict[str, Quality | None] = {}
    for run in runs:
        if run.facts.digest not in known:
            known[run.facts.digest] = quality_of(run)[0]
    remarks = [
        dataclasses.replace(finding, about=names[run.path])
        for run in runs
        for finding in findings(run, known[run.facts.digest])
    ]
    sheets = [
        _groups_sheet(groups),
        *([_differences_sheet(groups)] if len(groups) > 1 else []),
        _runs_sheet(runs, names),
    ]
    return Told(
        title=printable(
            f"{len(runs)} runs on {graphs[0]}"
            if len(graphs) == 1
            else f"{len(runs)} runs on {len(graphs)} graphs"
        ),
        state=_state_of_several(runs, groups),
        tiles=[],
        findings=seen_again(remarks, len(runs)),
        charts=compared(groups),
        sheets=sheets,
        command="",
        gaps=gaps,
        rows=[row_of(run) for run in runs],
        more={"groups": [_group_json(group) for group in groups]},
    )


def _names(runs: Sequence[RecordedRun]) -> list[str]:
    """The folders' names, with those of the folders around them where two are alike."""
    short_names = [run.path.name for run in runs]
    if len(set(short_names)) == len(short_names):
        return short_names
    return [str(run.path) for run in runs]


def _state_of_several(runs: Sequence[RecordedRun], groups: Sequence[Group]) -> str:
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    alike = f"{len(groups)} sets of options" if len(groups) > 1 else "one set of options"
    return f"{alike} · {counts}"


def _groups_sheet(groups: Sequence[Group]) -> Sheet:
    ordered = ranked(groups)
    metrics = {metric_of(run) for group in groups for run in group.runs if run.history}
    metric = next(iter(metrics)) if len(metrics) == 1 else "score"
    rows = []
    for group in ordered:
        epoch, wait = group.spread("epoch_s_median"), group.spread("halo_wait_s_median")
        share = percent(wait.mean / epoch.mean) if epoch.mean > 0 and math.isfinite(wait.mean) else "-"
        sent, held, best = (
            group.spread(name).mean for name in ("sent_bytes_per_epoch", "peak_rss_bytes", "best_epoch")
        )
        rows.append(
            [
                group.label,
                str(len(group.runs)),
                with_spread(group.spread("test_score")),
                with_spread(group.spread("val_score")),
                f"{best + 1:.0f}" if math.isfinite(best) else "-",
                duration(epoch.mean),
                share,
                size(sent),
                size(held),
            ]
        )
    heads = [
        "",
        "runs",
        f"test {metric}",
        f"validation {metric}",
        "best epoch",
        "epoch",
        "halo wait",
        "sent an epoch",
        "largest worker",
    ]
    several = any(len(group.runs) > 1 for group in groups)
    note = "Mean ± sample standard deviation over seeds." if several else ""
    return Sheet(
        title="Results, the best validation score first", heads=heads, rows=rows, note=note, strong=0
    )


def with_spread(spread: Spread) -> str:
    """Mean ± deviation, where there is one."""
    return f"{number(spread.mean)} ± {spread.std:.4f}" if math.isfinite(spread.std) else number(spread.mean)


def _differences_sheet(groups: Sequence[Group]) -> Sheet:
    ordered = ranked(groups)
    names = list(ordered[0].differing)
    names = [name for name in names if all(name in group.differing for group in ordered)]
    rows = [[group.label, *(_plain(group.differing[name]) for name in names)] for group in ordered]
    return Sheet(
        title="Options that differ", heads=["", *(name.replace("_", "-") for name in names)], rows=rows
    )


def _runs_sheet(runs: Sequence[RecordedRun], names: dict[Any, str]) -> Sheet:
    rows = [
        [
            names[run.path],
            str(run.facts.config.seed),
            run.state,
            f"{run.epochs} / {run.facts.config.epochs}",
            number(run.figure("test_score")),
            number(run.figure("val_score")),
            duration(run.figure("epoch_s_median")),
        ]
        for run in runs
    ]
    heads = ["run", "seed", "state", "epochs", "test", "validation", "epoch"]
    return Sheet(title=f"All {len(runs)} runs", heads=heads, rows=rows, folded=len(runs) > 12)


def _group_json(group: Group) -> dict[str, Any]:
    kept = ("test_score", "val_score", "epoch_s_median", "sent_bytes_per_epoch", "peak_rss_bytes")
    return {
        "label": group.label,
        "differing": group.differing,
        "runs": [str(run.path) for run in group.runs],
        **{name: dataclasses.asdict(group.spread(name)) for name in kept},
    }
