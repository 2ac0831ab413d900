"""Writes a run down and shows it: a line an epoch of each rank and of all, and the summary at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bnsgcn.dist import World
from bnsgcn.record import measurements
from bnsgcn.record.medians import of_run
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Several, Silent, Tracker


class JsonLines(Silent):
    """`metrics.jsonl` and `summary.json`, without which a run cannot go on: what they fail at ends it."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Add the line."""
        self._run.log_epoch(metrics)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        self._run.write_summary(summary)


class Recorder:
    """The records of one run; `run` and `listener` may be missing. Rank 0 alone tells its trackers."""

    def __init__(self, world: World, run: RunFolder | None, listener: Tracker | None) -> None:
        self._world, self._run = world, run
        self._listener = Silent() if listener is None or world.rank else listener
        lines = Silent() if run is None or world.rank else JsonLines(run)
        self._lines, self._trackers = lines, Several(lines, self._listener)
        self._epochs: list[dict[str, float]] = []

    def start(self, epoch: int, facts: dict[str, Any]) -> None:
        """Begin at `epoch`: what was written of it and of later ones is forgotten."""
        if self._run is not None:
            if self._world.rank == 0:
                self._run.claim()
            self._run.rewind(epoch, self._world.rank, self._world.size)
            if self._world.rank == 0:  # the summary is of the whole run
                self._epochs = self._run.metrics()
            facts = facts | {"run_dir": str(self._run.path)}
        self._trackers.on_start(facts)

    def epoch(
        self, own: dict[str, float], more: Mapping[str, float], beside: Mapping[str, Any] | None = None
    ) -> None:
        """Write an epoch down: this rank's measurements, those of all, and `more`. Collective.

        Args:
            beside: what is no number, for `metrics.jsonl` alone.
        """
        merged = measurements.of_all_ranks(self._world, own) | dict(more)
        self._epochs.append(merged)
        if self._run is not None:
            self._run.log_rank(self._world.rank, own)
        self._lines.on_epoch(merged | dict(beside or {}))
        self._listener.on_epoch(merged)

    def sync(self) -> None:
        """Make what was written so far survive a power failure."""
        if self._run is not None:
            self._run.sync(self._world.rank)

    def over_the_run(self) -> dict[str, Any]:
        """Medians, bytes and memory of all epochs so far."""
        return of_run(self._epochs)

    def end(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        self._trackers.on_end(summary)

    def end_again(self, expected: Mapping[str, Any]) -> dict[str, Any] | None:
        """Show the summary of a run that had ended; None where none was written, or none of this run."""
        found = None if self._run is None else self._run.summary()
        if found is None or not expected.keys() <= found.keys() or found["epochs"] != expected["epochs"]:
            return None
        summary = {name: math.nan if value is None else value for name, value in found.items()}
        self._listener.on_end(summary)
        return summary

    def close(self) -> None:
        """Let others write into the run folder."""
        if self._run is not None:
            self._run.release()
