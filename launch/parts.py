"""From what the user names, a folder of parts or a graph, to a folder of parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from launch.options import Train
from partition.cache import cached_parts
from partition.errors import UserError
from partition.sources import KINDS
from partition.store import read_manifest

DEFAULT_PARTS = 2


def parts_folder(command: Train, say: Callable[[str], None]) -> Path:
    """The folder to train on; a SOURCE is cut into the cache first, if it is not there yet.

    Raises:
        ValueError: There is no such folder or graph, or it has another number of parts than --parts.
    """
    folder = Path(command.source).expanduser()
    if folder.is_dir():
        manifest = read_manifest(folder)
        if command.parts not in (None, manifest.parts):
            raise UserError(
                f"--parts {command.parts}, but {folder} holds {manifest.parts} parts; leave --parts out, "
                f"or partition into {command.parts} parts"
            )
        return folder
    looks_like_path = "/" in command.source or folder.exists()
    if ":" not in command.source and command.source.lower() not in KINDS and looks_like_path:
        raise UserError(f"{folder} is no folder of parts; make one with bnsgcn partition, or name npz:FILE")
    with _alone(command.cache_dir.expanduser()):
        return cached_parts(
            command.source,
            command.parts or DEFAULT_PARTS,
            method=command.method,
            objective=command.objective,
            root=command.cache_dir,
            progress=say,
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
