"""A .jsonl file with one object an epoch: no hole and no double, however the run before it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import append_whole, finite, write_whole

MOST_EPOCHS = 1 << 53
"""A line with a later epoch is damaged."""


class EpochLines:
    """The lines of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, values: Mapping[str, float | int | None]) -> None:
        """Add a line, whole or not at all.

        Raises:
            OSError: The disk is full, say; the file is as it was.
        """
        append_whole(self.path, (json.dumps(finite(values)) + "\n").encode())

    def sync(self) -> None:
        """Make what was appended survive a power failure."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All lines, oldest first; empty before the first one."""
        return [entry for _, entry in self._whole()]

    def unreadable(self) -> int:
        """How many lines `read` passes over."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return len(content.splitlines()) - sum(1 for _ in self._whole())

    def rewind(self, epoch: int) -> None:
        """Forget `epoch` and what came later, and what is no line; a resumed run writes them again."""
        kept = b"".join(line for line, entry in self._whole() if entry["epoch"] < epoch)
        if self.path.exists() and self.path.stat().st_size != len(kept):
            write_whole(self.path, kept)

    def _whole(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Lines and what they say, without those cut short, damaged or written twice."""
        last = -1
        content = self.path.read_bytes() if self.path.exists() else b""
        for line in content.splitlines(keepends=True):
            entry = _entry(line)
            if entry is not None and entry["epoch"] > last:
                last = entry["epoch"]
                yield line, entry


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not line.endswith(b"\n") or not isinstance(entry, dict):
        return None
    epoch = entry.get("epoch")
    return entry if type(epoch) is int and epoch < MOST_EPOCHS else None
