"""From what the command names, a folder of parts or a graph, to a folder of parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from launch.options import Train
from launch.parse import graph_of
from launch.recipes import check_graph_of
from partition.cache import parts_folder
from partition.store import read_manifest


def parts_of(command: Train, say: Callable[[str], None]) -> Path:
    """The folder that `command` trains on; see `partition.cache.parts_folder`.

    Under torchrun a graph is cut into as many parts as there are workers, where nothing else is asked for.
    """
    parts = command.parts
    if "TORCHELASTIC_RUN_ID" in os.environ and not Path(command.source).expanduser().is_dir():
        parts = parts or int(os.environ["WORLD_SIZE"])
    folder = parts_folder(
        command.source,
        parts,
        method=command.method,
        objective=command.objective,
        root=command.cache_dir,
        progress=say,
    )
    if command.recipe is not None:
        check_graph_of(command.recipe, graph_of(command.recipe), read_manifest(folder))
    return folder
