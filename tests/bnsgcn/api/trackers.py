"""Trackers of one's own that every worker can import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bnsgcn


class Counting(bnsgcn.Tracker):
    """Keeps what it is told, and where."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.process, self.facts, self.summary = 0, dict[str, Any](), dict[str, Any]()
        self.epochs: list[dict[str, float]] = []

    def on_start(self, facts: dict[str, Any]) -> None:
        self.process, self.facts = os.getpid(), facts

    def on_epoch(self, metrics: dict[str, float]) -> None:
        self.epochs.append(metrics)
        if metrics["epoch"] == self.fails_at:
            raise ZeroDivisionError("a mistake of its own")

    def on_end(self, summary: dict[str, Any]) -> None:
        self.summary = summary


class InAFile(bnsgcn.Tracker):
    """Writes its process and the losses to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, facts: dict[str, Any]) -> None:
        self.path.write_text(f"{os.getpid()}\n")

    def on_epoch(self, metrics: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(f"{metrics['loss']!r}\n")


def in_a_file(run_dir: Path, config: bnsgcn.TrainConfig) -> InAFile:
    assert config.hidden == 8
    return InAFile(run_dir / "seen.txt")
