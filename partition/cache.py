"""Partition once, use again: folders of parts under a cache folder, named by what made them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from partition.assign import Objective, Progress, Recipe
from partition.build import build_parts
from partition.errors import UserError
from partition.graph import Graph
from partition.sources import KINDS, SourceSpec, parse
from partition.store import FORMAT_VERSION, file_digest, folder_digest, read_manifest

CACHE = Path("~/.cache/bnsgcn/parts")
DEFAULT_PARTS = 2


def parts_folder(
    source: str | Path | Graph,
    parts: int | None = None,
    *,
    method: str = "metis",
    objective: Objective = "volume",
    hosts: int = 1,
    root: Path = CACHE,
    progress: Progress | None = None,
) -> Path:
    """The folder of parts to train on; a SOURCE or a graph is cut into the cache first, where it is not yet.

    Args:
        source: a folder of parts, a SOURCE or a graph.
        parts: of a folder, what it is to have; of others `DEFAULT_PARTS` if not given.
        hosts: machines that a graph is cut for.

    Raises:
        UserError: There is no such folder or graph, or the folder has another number of parts.
    """
    if not isinstance(source, Graph):
        folder, source = Path(source).expanduser(), str(source)
        if folder.is_dir():
            manifest = read_manifest(folder)
            if parts not in (None, manifest.parts):
                raise UserError(
                    f"--parts {parts}, but {folder} holds {manifest.parts} parts; leave --parts out, "
                    f"or cut the graph anew: bnsgcn repartition {folder} --parts {parts} --out DIR2"
                )
            return folder
        looks_like_path = "/" in source or folder.exists()
        if ":" not in source and source.lower() not in KINDS and looks_like_path:
            raise UserError(
                f"{folder} is no folder of parts; make one with bnsgcn partition, or name npz:FILE"
            )
    with _alone(root.expanduser()):
        return cached_parts(
            source,
            parts or DEFAULT_PARTS,
            method,
            objective,
            root=root,
            hosts=hosts,
            progress=progress,
        )


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process at a time, so that workers of one machine do not cut the same graph twice."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached_parts(
    source: str | Graph,
    parts: int,
    method: str = "metis",
    objective: Objective = "volume",
    seed: int = 0,
    root: Path | str = CACHE,
    hosts: int = 1,
    progress: Progress | None = None,
) -> Path:
    """The folder of parts of `source` under `root`, made if it is not there yet.

    A source that is a file or a folder counts as changed when the size or time of change of anything in it
    differs, a graph in memory when its content does, the file of `--method file:` when its content does.
    """
    recipe = Recipe(parts=parts, method=method, objective=objective, seed=seed, hosts=hosts)
    made_by = f"{_method(recipe)} {parts} {objective} {seed} {hosts} {_program()}"
    if isinstance(source, Graph):
        content = f"{source.digest()} {source.directed} {source.feature_storage} {source.scaling}"
        named, what = source.name, f"in memory {content}"
    else:
        named, what = source, f"{source} {_state(parse(source))}"
    key = f"{FORMAT_VERSION} {what} {made_by}"
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", named.rpartition("/")[2])[:40].strip("-.")
    folder = Path(root).expanduser() / f"{name}-{parts}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if folder.exists():
        read_manifest(folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        build_parts(source, recipe, out=folder, progress=progress)
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
