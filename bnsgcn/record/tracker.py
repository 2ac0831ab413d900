"""Trackers: what follows a run, from its face on a terminal to TensorBoard and to objects of your own."""

from __future__ import annotations

from typing import Any, Protocol


class Tracker(Protocol):
    """Follows a run on rank 0, between its epochs. A subclass leaves out what it has no use for."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Before the first epoch of this process.

        `facts`: name, parts, model, epochs, config, start_epoch (above 0 in a run that goes on), run_dir
        where there is one, and more; ready for JSON. Up to then `metrics.jsonl` has the epochs.
        """
        return None

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """After every epoch, with what `metrics.jsonl` gets."""
        return None

    def on_end(self, summary: dict[str, Any]) -> None:
        """After the last epoch, with what `summary.json` gets; not in a run that fails or is stopped."""
        return None


Listener = Tracker
"""Its name before there was `--track`."""


class Silent(Tracker):
    """Takes no notice of anything; the others' base."""


class Several(Silent):
    """Trackers one after the other."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def on_start(self, facts: dict[str, Any]) -> None:
        """Tell all of them."""
        for tracker in self._trackers:
            tracker.on_start(facts)

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Tell all of them."""
        for tracker in self._trackers:
            tracker.on_epoch(metrics)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Tell all of them."""
        for tracker in self._trackers:
            tracker.on_end(summary)
