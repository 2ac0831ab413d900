"""RUN/metrics.csv: a row an epoch, for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import append_whole, write_whole
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent

SCORES = ("val_score", "test_score")
"""Columns of which the first epoch need not have anything."""


class CsvFile(Silent):
    """Written anew when a run goes on, and when an epoch has a name that none before it had."""

    def __init__(self, run_dir: Path) -> None:
        self._run, self._path = RunFolder(run_dir), run_dir / "metrics.csv"
        self._names: list[str] = []

    def on_start(self, facts: dict[str, Any]) -> None:
        """Write what `metrics.jsonl` has."""
        self._write(self._run.metrics())

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Add a row."""
        if metrics.keys() <= set(self._names):
            append_whole(self._path, self._rows([metrics]))
        else:
            self._write([*self._run.metrics()[:-1], metrics])

    def _write(self, lines: list[dict[str, Any]]) -> None:
        names = dict.fromkeys(name for line in lines for name in line)
        self._names = list(names | dict.fromkeys(SCORES)) if lines else []
        head = self._rows([dict(zip(self._names, self._names, strict=True))]) if lines else b""
        write_whole(self._path, head + self._rows(lines))

    def _rows(self, lines: Iterable[Mapping[str, Any]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self._names, lineterminator="\n").writerows(lines)
        return text.getvalue().encode()
