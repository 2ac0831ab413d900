"""What machines read of a run, a line of JSON an event, and the one line that a quiet run prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bnsgcn.record.json_file import finite
from bnsgcn.record.tracker import Silent
from bnsgcn.show.face import score_line
from bnsgcn.show.say import say


class JsonEvents(Silent):
    """{"event": "start" | "epoch" | "end", ...}: the facts, an epoch's metrics, the summary; null for NaN."""

    def __init__(self, write: Callable[[str], object] = say) -> None:
        """`write` gets the lines."""
        self._write = write

    def on_start(self, facts: dict[str, Any]) -> None:
        """Write the facts."""
        self._event("start", facts)

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Write the metrics."""
        self._event("epoch", metrics)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        self._event("end", summary)

    def _event(self, name: str, values: Mapping[str, Any]) -> None:
        self._write(json.dumps({"event": name} | finite(values)))


class JsonEnd(Silent):
    """The last event alone."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """Print the summary."""
        JsonEvents().on_end(summary)


class ScoreLine(Silent):
    """The line with the score alone."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """Print it."""
        say(score_line(summary))
