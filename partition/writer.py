"""Writes the arrays of the parts, one after the other, and knows their digests.

Shapes:
    I inner rows   F features
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import Int64Array
from partition.graph import Graph
from partition.store import part_folder

FEATURE_BLOCK_BYTES = 1 << 25


class FolderWriter:
    """Writes the arrays of the parts below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[str, str] = {}
        """SHA-256 of every file written, by its name relative to the folder."""

    def array(self, part: int, name: str, array: npt.NDArray[Any]) -> None:
        """Write one whole array."""
        self._write(part, name, array.dtype, array.shape, [array])

    def dense_rows(self, part: int, name: str, graph: Graph, nodes: Int64Array) -> None:
        """Write the feature rows of `nodes` block by block."""
        shape = (nodes.size, graph.num_features)
        self._write(part, name, np.dtype(np.float32), shape, _dense_blocks(graph, nodes))

    def sparse_rows(self, part: int, graph: Graph, nodes: Int64Array) -> None:
        """Write what is set of the feature rows of `nodes`."""
        rows = graph.features[nodes]
        rows.eliminate_zeros()
        self.array(part, "feature_splits", rows.indptr.astype(np.int64))
        self.array(part, "feature_columns", rows.indices.astype(np.int32))
        self.array(part, "feature_values", rows.data)

    def _write(
        self,
        part: int,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        blocks: Iterable[npt.NDArray[Any]],
    ) -> None:
        relative = f"{part_folder(part)}/{name}.npy"
        path = self.folder / relative
        path.parent.mkdir(exist_ok=True)
        header = io.BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        digest = hashlib.sha256(header.getvalue())
        with path.open("xb") as file:
            file.write(header.getvalue())
            for block in blocks:
                content = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
                digest.update(content)
                file.write(content)
        self.digests[relative] = digest.hexdigest()


def _dense_blocks(graph: Graph, nodes: Int64Array) -> Iterator[npt.NDArray[np.float32]]:
    step = max(1, FEATURE_BLOCK_BYTES // (4 * graph.num_features))
    for start in range(0, nodes.size, step):
        rows = nodes[start : start + step]
        yield graph.features[rows].toarray() if sp.issparse(graph.features) else _rows(graph.features, rows)


def _rows(features: npt.NDArray[np.float32], rows: Int64Array) -> npt.NDArray[np.float32]:
    """Rows of a matrix that may be an unaligned memmap (a member of an archive), without copying the rest."""
    if features.flags.aligned:
        return np.take(features, rows, axis=0)
    if not features.flags.c_contiguous:
        return features[rows]
    taken = np.take(features.view(np.uint8), rows, axis=0)
    return taken.view(np.float32)
