"""The passes of stream.c: compiled where that is possible, in Python otherwise, with the same result.

Shapes:
    N nodes   P parts
"""

from __future__ import annotations

import ctypes
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, Int64Array
from partition.native import Native, load

SOURCE = Path(__file__).with_name("stream.c")
LAYOUT = (1,)
Int32Array = npt.NDArray[np.int32]
Work = npt.NDArray[np.float64]

INT64, INT32, REAL, ARRAY = ctypes.c_int64, ctypes.c_int32, ctypes.c_double, ctypes.c_void_p


def compiled() -> Native:
    """The library of stream.c, or why there is none."""
    native = load(SOURCE, LAYOUT)
    found = native.library
    if found is not None:
        found.stream_pass.argtypes = [
            INT64, INT32, ARRAY, ARRAY, INT32, REAL, REAL, REAL, REAL, ARRAY, ARRAY, ARRAY, ARRAY
        ]  # fmt: skip
        found.stream_pass.restype = INT64
        found.cluster_pass.argtypes = [INT64, ARRAY, ARRAY, REAL, REAL, ARRAY, ARRAY, ARRAY, ARRAY]
        found.cluster_pass.restype = INT64
    return native


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a stream weighs the parts for a node; see stream.c."""

    ldg: bool
    extra: float
    share: float
    alpha: float
    cap: float


def stream_pass(
    adjacency: Adjacency,
    part_of: Int32Array,
    load: Work,
    size: Int64Array,
    how: Scoring,
    native: ctypes.CDLL | None,
) -> int:
    """Give every node its best part, in order; `part_of` [N], `load` and `size` [P] change. Nodes moved."""
    if native is None:
        return _stream(adjacency, part_of, load, size, how)
    assert adjacency.indices.dtype == np.int32
    near = np.zeros(load.size, np.int32)
    return int(
        native.stream_pass(
            part_of.size,
            load.size,
            adjacency.indptr.ctypes.data,
            adjacency.indices.ctypes.data,
            *dataclasses.astuple(how),
            part_of.ctypes.data,
            load.ctypes.data,
            size.ctypes.data,
            near.ctypes.data,
        )
    )


def _stream(adjacency: Adjacency, part_of: Int32Array, load: Work, size: Int64Array, how: Scoring) -> int:
    moved, indptr, indices = 0, adjacency.indptr, adjacency.indices
    for node in range(part_of.size):
        row = indices[indptr[node] : indptr[node + 1]]
        work = (row.size + how.extra) * how.share
        old = int(part_of[node])
        if old >= 0:
            if size[old] == 1:
                continue
            load[old] -= work
            size[old] -= 1
        owners = part_of[row]
        near = np.bincount(owners[owners >= 0], minlength=load.size)
        score = (
            near * (1.0 - load / how.cap) if how.ldg else near - how.alpha * np.sqrt(np.maximum(load, 0.0))
        )
        room = np.flatnonzero(load + work <= how.cap)
        if room.size:
            best = int(room[np.lexsort((room, load[room], -score[room]))[0]])
        else:
            best = int(np.argmin(load))
        part_of[node] = best
        load[best] += work
        size[best] += 1
        moved += best != old
    return moved


def cluster_pass(
    adjacency: Adjacency,
    label: Int32Array,
    weight: Work,
    *,
    extra: float,
    cap: float,
    native: ctypes.CDLL | None,
) -> int:
    """Give every node the cluster of most of its neighbours that has room; `label`, `weight` [N] change."""
    if native is None:
        return _cluster(adjacency, label, weight, extra, cap)
    assert adjacency.indices.dtype == np.int32
    seen, touched = np.zeros(label.size, np.int32), np.zeros(label.size, np.int32)
    return int(
        native.cluster_pass(
            label.size,
            adjacency.indptr.ctypes.data,
            adjacency.indices.ctypes.data,
            extra,
            cap,
            label.ctypes.data,
            weight.ctypes.data,
            seen.ctypes.data,
            touched.ctypes.data,
        )
    )


def _cluster(adjacency: Adjacency, label: Int32Array, weight: Work, extra: float, cap: float) -> int:
    moved, indptr, indices = 0, adjacency.indptr, adjacency.indices
    for node in range(label.size):
        row = label[indices[indptr[node] : indptr[node + 1]]]
        work = row.size + extra
        old = int(label[node])
        reached, first, seen = np.unique(row, return_index=True, return_counts=True)
        best, most = old, int((row == old).sum())
        for at in np.argsort(first):
            cluster, count = int(reached[at]), int(seen[at])
            tied = count == most and cluster < best and best != old
            if cluster != old and weight[cluster] + work <= cap and (count > most or tied):
                best, most = cluster, count
        if best != old:
            weight[old] -= work
            weight[best] += work
            label[node] = best
            moved += 1
    return moved
