"""Writes the arrays of the parts, one after the other, and knows what it wrote.

Shapes:
    I inner rows   F features
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import Int64Array
from partition.graph import Graph
from partition.store import file_digest, part_folder

FEATURE_BLOCK_BYTES = 1 << 25


class FolderWriter:
    """Writes the arrays of the parts and keeps their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: list[str] = []

    def array(self, part: int, name: str, array: npt.NDArray[np.generic]) -> None:
        """Write one whole array."""
        np.save(self._path(part, name), np.ascontiguousarray(array), allow_pickle=False)

    def dense_rows(self, part: int, name: str, graph: Graph, nodes: Int64Array) -> None:
        """Write the feature rows of `nodes` block by block; sparse ones become dense here and only here."""
        shape = (nodes.size, graph.num_features)
        mapped = np.lib.format.open_memmap(self._path(part, name), mode="w+", dtype=np.float32, shape=shape)
        step = max(1, FEATURE_BLOCK_BYTES // (4 * graph.num_features))
        for start in range(0, nodes.size, step):
            block = nodes[start : start + step]
            if sp.issparse(graph.features):
                mapped[start : start + step] = graph.features[block].toarray()
            else:
                _take_rows(graph.features, block, mapped[start : start + step])
        mapped.flush()

    def read(self, part: int, name: str) -> npt.NDArray[np.generic]:
        """An array written before."""
        loaded: npt.NDArray[np.generic] = np.load(
            self.folder / part_folder(part) / f"{name}.npy", allow_pickle=False
        )
        return loaded

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file written."""
        return {name: file_digest(self.folder / name) for name in sorted(self._written)}

    def _path(self, part: int, name: str) -> Path:
        relative = f"{part_folder(part)}/{name}.npy"
        (self.folder / relative).parent.mkdir(exist_ok=True)
        self._written.append(relative)
        return self.folder / relative


def _take_rows(features: npt.NDArray[np.float32], rows: Int64Array, out: npt.NDArray[np.float32]) -> None:
    """Rows of a matrix that may be an unaligned memmap (a member of an archive), without copying the rest."""
    if features.flags.aligned:
        np.take(features, rows, axis=0, out=out)
    else:
        np.take(features.view(np.uint8), rows, axis=0, out=out.view(np.uint8))
