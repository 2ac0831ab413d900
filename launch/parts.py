"""From what the command names, a folder of parts or a graph, to a folder of parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from launch.options import Train
from launch.parse import graph_of
from launch.recipes import check_graph_of
from partition.assign.recipe import FOR_HOSTS
from partition.cache import parts_folder
from partition.errors import UserError
from partition.store import read_manifest


def parts_of(command: Train, say: Callable[[str], None]) -> Path:
    """The folder that `command` trains on; see `partition.cache.parts_folder`.

    Under torchrun a graph is cut into as many parts as there are workers, where nothing else is asked for,
    and for the machines that they run on.

    Raises:
        UserError: each of several machines would cut by a method of which two runs differ.
    """
    parts, hosts = command.parts, 1
    if "TORCHELASTIC_RUN_ID" in os.environ and not Path(command.source).expanduser().is_dir():
        parts = parts or int(os.environ["WORLD_SIZE"])
        hosts = _hosts(command, parts)
    folder = parts_folder(
        command.source,
        parts,
        method=command.method,
        objective=command.objective,
        hosts=hosts,
        root=command.cache_dir,
        progress=say,
    )
    if command.recipe is not None:
        check_graph_of(command.recipe, graph_of(command.recipe), read_manifest(folder))
    return folder


def _hosts(command: Train, parts: int) -> int:
    """Machines that torchrun's workers run on, where all run as many and the method cuts for machines."""
    workers, here = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if parts != workers or workers % here:
        return 1
    if command.method == "kahypar" and workers > here:
        raise UserError(
            f"--method kahypar on {workers // here} machines: each would cut another way; cut once with "
            f"bnsgcn partition {command.source} --parts {parts} --hosts {workers // here} --method kahypar "
            f"--out DIR, and train on DIR"
        )
    return workers // here if command.method in FOR_HOSTS else 1
