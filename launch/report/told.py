"""What a report says, whatever it is written as: a page, Markdown, a table for a program, JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from bnsgcn.record.recorded import RecordedRun
from launch.report.canvas import Chart
from launch.report.findings import Finding
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


def plain(value: Any) -> str:
    """The value of an option in a table."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
