"""Partition once, use again: folders of parts under a cache folder, named by what made them."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
from pathlib import Path

import numpy as np

from partition.assign import Objective, Progress, Recipe
from partition.build import partition_graph
from partition.errors import UserError
from partition.sources import SourceSpec, parse
from partition.store import FORMAT_VERSION, file_digest, folder_digest, read_manifest


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

    A source that is a file or a folder counts as changed when the size or time of change of anything in it
    differs, the file of `--method file:` when its content does.
    """
    recipe = Recipe(parts=parts, method=method, objective=objective, seed=seed)
    made_by = f"{_method(recipe)} {parts} {objective} {seed} {_program()}"
    key = f"{FORMAT_VERSION} {source} {_state(parse(source))} {made_by}"
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
    path = spec.file()
    if not spec.target or not path.exists():
        return ""
    states = [(file, file.lstat()) for file in (path.resolve(), *sorted(path.rglob("*")))]
    return " ".join(f"{file} {state.st_size} {state.st_mtime_ns}" for file, state in states)


def _method(recipe: Recipe) -> str:
    """The method; where a file decides, what is in it."""
    path = Path(recipe.option).expanduser()
    return f"file {file_digest(path)}" if recipe.kind == "file" and path.is_file() else recipe.method


@functools.cache
def _program() -> str:
    """What changes when this package or METIS, which decide who goes where, do."""
    sources = folder_digest(Path(__file__).parent)
    return f"{importlib.metadata.version('pymetis')} {np.__version__} {sources}"
