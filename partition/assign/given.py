"""`file:ASSIGNMENT.npy`: one part index per node, made elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def given_parts(path: Path, num_nodes: int, parts: int) -> npt.NDArray[np.int32]:
    """Part of every node, int32 [N], from an integer array file; ValueError for one that does not fit."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; --method file:ASSIGNMENT.npy needs one part index per node")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: not a whole NumPy array file ({' '.join(str(error).split())})") from error
    if not isinstance(loaded, np.ndarray) or not np.issubdtype(loaded.dtype, np.integer):
        raise ValueError(f"{path}: not an array of whole numbers; save part indices as int32")
    if loaded.shape != (num_nodes,):
        raise ValueError(f"{path}: shape {loaded.shape} for {num_nodes} nodes; expected ({num_nodes},)")
    low, high = int(loaded.min()), int(loaded.max())
    if low < 0 or high >= parts:
        wrong = low if low < 0 else high
        node = int(np.flatnonzero(loaded == wrong)[0])
        raise ValueError(
            f"{path}: part {wrong} of node {node} is out of range with {parts} parts; "
            f"indices go from 0 to {parts - 1}"
        )
    empty = np.flatnonzero(np.bincount(loaded, minlength=parts) == 0)
    if empty.size:
        raise ValueError(
            f"{path}: part {int(empty[0])} of {parts} has no node; use --parts {high + 1} or another file"
        )
    return loaded.astype(np.int32)
