"""Writes a run down and shows it: a line an epoch of each rank and of all, and the summary at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bnsgcn.dist import World
from bnsgcn.record import measurements
from bnsgcn.record.run_folder import Listener, RunFolder, Silent


class Recorder:
    """The records of one run; `run` and `listener` may be missing."""

    def __init__(self, world: World, run: RunFolder | None, listener: Listener | None) -> None:
        self._world, self._run, self._listener = world, run, listener or Silent()
        self._epochs: list[dict[str, float]] = []

    def start(self, epoch: int, facts: dict[str, Any]) -> None:
        """Begin at `epoch`: what was written of it and of later ones is forgotten."""
        if self._run is not None:
            if self._world.rank == 0:
                self._run.claim()
            self._run.rewind(epoch, self._world.rank)
            if self._world.rank == 0:  # the summary is of the whole run
                self._epochs = self._run.metrics()
        if self._world.rank == 0:
            self._listener.on_start(facts)

    def epoch(self, own: dict[str, float], more: Mapping[str, float]) -> None:
        """Write an epoch down: this rank's measurements, those of all, and `more`. Collective."""
        merged = measurements.of_all_ranks(self._world, own) | dict(more)
        self._epochs.append(merged)
        if self._run is not None:
            self._run.log_rank(self._world.rank, own)
        if self._world.rank == 0:
            if self._run is not None:
                self._run.log_epoch(merged)
            self._listener.on_epoch(merged)

    def sync(self) -> None:
        """Make what was written so far survive a power failure."""
        if self._run is not None:
            self._run.sync(self._world.rank)

    def over_the_run(self) -> dict[str, Any]:
        """Medians, bytes and memory of all epochs so far."""
        return measurements.of_run(self._epochs)

    def end(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        if self._world.rank == 0:
            if self._run is not None:
                self._run.write_summary(summary)
            self._listener.on_end(summary)

    def end_again(self, expected: Mapping[str, Any]) -> dict[str, Any] | None:
        """Show the summary of a run that had ended; None where none was written, or none of this run."""
        found = None if self._run is None else self._run.summary()
        if found is None or not expected.keys() <= found.keys() or found["epochs"] != expected["epochs"]:
            return None
        summary = {name: math.nan if value is None else value for name, value in found.items()}
        if self._world.rank == 0:
            self._listener.on_end(summary)
        return summary

    def close(self) -> None:
        """Let others write into the run folder."""
        if self._run is not None:
            self._run.release()
