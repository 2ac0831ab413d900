"""Partition once, use again: folders of parts under a cache folder, named by what made them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from partition.assign import Objective, Progress
from partition.build import partition_graph
from partition.errors import UserError
from partition.sources import SourceSpec, parse
from partition.store import FORMAT_VERSION, read_manifest


def cached_parts(
    source: str,
    parts: int,
    method: str = "metis",
    objective: Objective = "volume",
    seed: int = 0,
    root: Path | str = "~/.cache/bnsgcn/parts",
    progress: Progress | None = None,
) -> Path:
    """The folder of parts of `source` under `root`, made if it is not there yet.

    A source that is a file or a folder counts as changed when its size or time of change differs.
    """
    key = f"{FORMAT_VERSION} {source} {_state(parse(source))} {parts} {method} {objective} {seed}"
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", source.rpartition("/")[2])[:40].strip("-.")
    folder = Path(root).expanduser() / f"{name}-{parts}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if folder.exists():
        read_manifest(folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        partition_graph(
            source, parts=parts, out=folder, method=method, objective=objective, seed=seed, progress=progress
        )
    except UserError:
        if not folder.exists():  # where it does, another process was faster
            raise
    return folder


def _state(spec: SourceSpec) -> str:
    """What changes when the file or folder behind a source does; nothing for a source that is none."""
    path = Path(spec.target).expanduser()
    if not spec.target or not path.exists():
        return ""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
