"""From what the command names, a folder of parts or a graph, to a folder of parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from launch.options import Train
from partition.cache import parts_folder


def parts_of(command: Train, say: Callable[[str], None]) -> Path:
    """The folder that `command` trains on; see `partition.cache.parts_folder`."""
    return parts_folder(
        command.source,
        command.parts,
        method=command.method,
        objective=command.objective,
        root=command.cache_dir,
        progress=say,
    )
