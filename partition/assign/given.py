"""`file:ASSIGNMENT.npy`: one part index per node, made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError, one_line


def given_parts(path: Path, num_nodes: int, parts: int) -> npt.NDArray[np.int32]:
    """Part of every node, int32 [N], from an integer array file; ValueError for one that does not fit."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; --method file:ASSIGNMENT.npy needs one part index per node")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a whole NumPy array file ({one_line(error)})") from error
    if not isinstance(loaded, np.ndarray) or not np.issubdtype(loaded.dtype, np.integer):
        raise UserError(f"{path}: not an array of whole numbers; save part indices as int32")
    return checked_parts(str(path), loaded, num_nodes, parts)


def checked_parts(name: str, part_of: npt.NDArray[Any], num_nodes: int, parts: int) -> npt.NDArray[np.int32]:
    """`part_of` as int32 [N]; ValueError where it does not cut N nodes into exactly `parts` parts."""
    if part_of.shape != (num_nodes,):
        raise UserError(f"{name}: shape {part_of.shape} for {num_nodes} nodes; expected ({num_nodes},)")
    low, high = int(part_of.min()), int(part_of.max())
    if low < 0 or high >= parts:
        wrong = low if low < 0 else high
        node = int(np.flatnonzero(part_of == wrong)[0])
        raise UserError(
            f"{name}: part {wrong} of node {node} is out of range with {parts} parts; "
            f"indices go from 0 to {parts - 1}"
        )
    empty = np.flatnonzero(np.bincount(part_of, minlength=parts) == 0)
    if empty.size:
        raise UserError(f"{name}: part {int(empty[0])} of {parts} has no node; use fewer --parts")
    return part_of.astype(np.int32)
