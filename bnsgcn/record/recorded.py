"""A run as its folder tells it: what was asked for, every epoch, every rank, the end; while it runs, too.

What is damaged or absent is left out and said in `gaps`; nothing is written.

    E epochs that have a line
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from bnsgcn.record.medians import of_run
from bnsgcn.record.run_folder import RunFacts, RunFolder

History: TypeAlias = dict[str, npt.NDArray[Any]]
"""{name: values of all epochs}; "epoch" is int64, all others are float64, NaN where an epoch has none."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """One run."""

    path: Path
    facts: RunFacts
    history: History
    """Of all ranks, [E]; empty before the first epoch."""
    ranks: tuple[History, ...]
    """Of each rank; as far as there are any."""
    figures: Mapping[str, Any]
    """summary.json, or as much of it as the epochs so far say."""
    state: Literal["ended", "running", "stopped"]
    gaps: tuple[str, ...]
    """What cannot be read."""

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return int(self.history["epoch"][-1]) + 1 if self.history else 0

    def of(self, name: str) -> npt.NDArray[np.float64]:
        """The values of one name, [E], all NaN where it was not recorded."""
        missing = np.full(len(self.history.get("epoch", ())), math.nan)
        return np.asarray(self.history.get(name, missing), dtype=np.float64)

    def figure(self, name: str) -> float:
        """One of `figures`; NaN where it is not known."""
        return as_number(self.figures.get(name))


def read_run(path: Path) -> RecordedRun:
    """The run in a folder.

    Raises:
        UserError: It is no run folder.
    """
    folder = RunFolder(path)
    facts, running = folder.open(), folder.in_use()
    lines, summary = folder.metrics(), folder.summary()
    history = history_of(lines)
    ranks = tuple(filter(None, (history_of(folder.rank_metrics(rank)) for rank in range(facts.parts))))
    done = int(history["epoch"][-1]) + 1 if history else 0
    ended = summary is not None and not running and as_number(summary.get("epochs")) == done
    gaps = [*_gaps(folder, history, done, running), *_gaps_of_ranks(ranks, history, facts.parts)]
    if summary is None and (path / "summary.json").exists():
        gaps.append("summary.json cannot be read; the figures are those of the epochs")
    return RecordedRun(
        path=path,
        facts=facts,
        history=history,
        ranks=ranks,
        figures=_so_far(history, lines) | (summary if ended and summary is not None else {}),
        state="running" if running else "ended" if ended else "stopped",
        gaps=tuple(gaps),
    )


def history_of(lines: Sequence[Mapping[str, Any]]) -> History:
    """The lines of a file, as columns."""
    names = dict.fromkeys(
        name for line in lines for name, value in line.items() if not isinstance(value, list)
    )
    columns: History = {name: np.array([as_number(line.get(name)) for line in lines]) for name in names}
    return columns | ({"epoch": columns["epoch"].astype(np.int64)} if columns else {})


def as_number(value: Any) -> float:
    """A number of a JSON file; NaN for null and whatever else is none."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _so_far(history: History, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the epochs say of what a summary holds."""
    if not history:
        return {}
    found = of_run(lines) | {"epochs": int(history["epoch"][-1]) + 1}
    if "loss" in history:
        found["final_loss"] = float(history["loss"][-1])
    val = history.get("val_score")
    if val is not None and np.isfinite(val).any():
        best = int(np.nanargmax(val))
        found |= {"best_epoch": int(history["epoch"][best]), "val_score": float(val[best])}
        if "test_score" in history:
            found["test_score"] = float(history["test_score"][best])
    return found


def _gaps(folder: RunFolder, history: History, done: int, running: bool) -> list[str]:
    if not history:
        return ["no epoch has ended yet, so there is nothing to draw"]
    gaps = []
    damaged = folder.unreadable()
    if damaged > int(running):  # the last line may just be on its way
        lines = "1 line" if damaged == 1 else f"{damaged} lines"
        gaps.append(f"{lines} of metrics.jsonl cannot be read and are left out")
    absent = done - len(history["epoch"])
    if absent:
        gaps.append(f"{absent} of {done} epochs have no line; times and bytes in sum are too low by them")
    return gaps


def _gaps_of_ranks(ranks: Sequence[History], history: History, parts: int) -> list[str]:
    if len(ranks) < parts and history:
        return [f"{parts - len(ranks)} of {parts} ranks have no lines (rank_K.jsonl)"]
    return []
