"""Trackers in the process that started the workers: rank 0 writes events to a file, this process reads."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import append_whole
from bnsgcn.record.tracker import Several, Tracker
from bnsgcn.show.events import JsonEvents


def event_file(path: Path) -> JsonEvents:
    """The writing end."""
    return JsonEvents(lambda line: append_whole(path, f"{line}\n".encode()))


class RelayedEvents:
    """The reading end: `trackers` are told what has come since."""

    def __init__(self, path: Path, trackers: Sequence[Tracker]) -> None:
        self.path, self._trackers = path, Several(*trackers)
        self._told = 0

    def relay(self) -> None:
        """Tell them; nothing where there is nothing new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._told)
            for line in file:
                if not line.endswith(b"\n"):  # the rest is on its way
                    return
                self._told += len(line)
                self._tell(json.loads(line))

    def _tell(self, event: dict[str, Any]) -> None:
        name = event.pop("event")
        if name == "start":
            self._trackers.on_start(event)
            return
        values = {key: math.nan if value is None else value for key, value in event.items()}
        tell = self._trackers.on_epoch if name == "epoch" else self._trackers.on_end
        tell(values)
