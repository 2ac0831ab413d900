"""The report on one run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnsgcn.record.recorded import RecordedRun
from bnsgcn.show.units import duration, number, short, size
from launch.report.findings import findings, percent
from launch.report.repeated import changed, command_again
from launch.report.run_charts import LOADS, bytes_of, charts_of, metric_of
from launch.report.told import Sheet, Told, plain, quality_of, row_of
from partition.errors import printable
from partition.quality import Quality


def of_one(run: RecordedRun, more_gaps: Sequence[str]) -> Told:
    """All that is said of it; `more_gaps` are known from elsewhere."""
    quality, unknown = quality_of(run)
    gaps = [*more_gaps, *run.gaps, *([unknown] if unknown else []), *_not_recorded(run)]
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
        [name.replace("_", "-"), plain(value), "" if name in differ else "default"]
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
