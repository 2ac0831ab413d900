"""What an assignment costs: the rows that travel per layer, and the arcs that cross.

Shapes:
    N nodes   P parts
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from partition.adjacency import Int64Array, row_numbers
from partition.graph import Graph

CHUNK_ENTRIES = 1 << 24


def volume_matrix(graph: Graph, part_of: npt.NDArray[np.int32], parts: int) -> Int64Array:
    """Rows that the owner (row) sends to the reader (column) per layer, int64 [P, P], zero diagonal."""
    readers_of = graph.adjacency.transposed() if graph.directed else graph.adjacency
    indptr, indices = readers_of.indptr, readers_of.indices
    matrix: Int64Array = np.zeros(parts * parts, np.int64)
    for start, stop in readers_of.stretches(arcs=CHUNK_ENTRIES, rows=max(1, CHUNK_ENTRIES // parts)):
        local = indptr[start : stop + 1] - indptr[start]
        reads = np.zeros((stop - start) * parts, np.bool_)
        readers = part_of[indices[indptr[start] : indptr[stop]]]
        reads[row_numbers(local).astype(np.int64) * parts + readers] = True
        node, reader = np.divmod(np.flatnonzero(reads), parts)
        matrix += np.bincount(
            part_of[start + node].astype(np.int64) * parts + reader, minlength=parts * parts
        )
    square = matrix.reshape(parts, parts)
    np.fill_diagonal(square, 0)
    return square


def total_volume(graph: Graph, part_of: npt.NDArray[np.int32], parts: int) -> int:
    """Halo slots of all parts together: rows sent per layer at rate 1."""
    return int(volume_matrix(graph, part_of, parts).sum())


def cut_arcs(graph: Graph, part_of: npt.NDArray[np.int32]) -> int:
    """Arcs between different parts."""
    crossing, rows = 0, graph.num_nodes
    step = max(1, rows * CHUNK_ENTRIES // max(1, graph.num_arcs))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        splits = graph.indptr[start : stop + 1]
        own = np.repeat(part_of[start:stop], np.diff(splits))
        crossing += int((own != part_of[graph.indices[splits[0] : splits[-1]]]).sum())
    return crossing
