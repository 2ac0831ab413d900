"""`file:ASSIGNMENT.npy`: one part index per node, made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError, one_line


def given_parts(path: Path, num_nodes: int, parts: int) -> npt.NDArray[np.int32]:
    """Part of every node, int32 [N], from an integer array file.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; --method file:ASSIGNMENT.npy needs one part index per node")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy refuses a broken header with any of half a dozen types
        raise UserError(f"{path}: not a whole NumPy array file ({one_line(error)})") from error
    if not isinstance(loaded, np.ndarray) or not np.issubdtype(loaded.dtype, np.integer):
        raise UserError(f"{path}: not an array of whole numbers; save part indices as int32")
    return checked_parts(str(path), loaded, num_nodes, parts)


def checked_parts(name: str, part_of: npt.NDArray[Any], num_nodes: int, parts: int) -> npt.NDArray[np.int32]:
    """`part_of` as int32 [N].

    Raises:
        UserError: it does not cut N nodes into exactly `parts` parts.
    """
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
    checked = np.array(part_of, np.int32)
    empty = np.flatnonzero(np.bincount(checked, minlength=parts) == 0)
    if empty.size:
        raise UserError(f"{name}: part {int(empty[0])} of {parts} has no node; use fewer --parts")
    return checked
