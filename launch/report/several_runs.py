"""The report on several runs: groups of them, alike but for their seed, side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnsgcn.record.recorded import RecordedRun
from bnsgcn.show.units import duration, number, size
from launch.report.compared_charts import compared, ranked
from launch.report.findings import findings, percent, seen_again
from launch.report.grouped import Group, Spread, grouped
from launch.report.run_charts import metric_of
from launch.report.told import Sheet, Told, plain, quality_of, row_of
from partition.errors import printable
from partition.quality import Quality


def of_several(runs: Sequence[RecordedRun], more_gaps: Sequence[str]) -> Told:
    """All that is said of them; `more_gaps` are known from elsewhere."""
    gaps = list(more_gaps)
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
    rows = [[group.label, *(plain(group.differing[name]) for name in names)] for group in ordered]
    return Sheet(
        title="Options that differ", heads=["", *(name.replace("_", "-") for name in names)], rows=rows
    )


def _runs_sheet(runs: Sequence[RecordedRun], names: dict[Path, str]) -> Sheet:
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
