"""Arcs into CSR, and the few CSR operations that everything here is made of.

Row i of a CSR lists the sources j of the arcs j -> i: ascending, each once, no self loop.

Shapes:
    N nodes   E arcs   R rows picked
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def index_dtype(num_nodes: int) -> np.dtype[np.integer[Any]]:
    """int32 where node ids fit, else int64."""
    return np.dtype(np.int32) if num_nodes <= np.iinfo(np.int32).max else np.dtype(np.int64)


def sorted_unique(keys: Int64Array) -> Int64Array:
    """The distinct `keys`, ascending; sorts `keys` in place."""
    keys.sort()
    if keys.size == 0:
        return keys
    fresh = np.empty(keys.size, np.bool_)
    fresh[0] = True
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    return keys if fresh.all() else keys[fresh]


def csr_from_arcs(
    source: IntArray, target: IntArray, num_nodes: int, *, symmetrise: bool
) -> tuple[Int64Array, IntArray]:
    """CSR (indptr int64 [N+1], indices [E]) of the arcs source -> target.

    Self loops are dropped and duplicates merged; with `symmetrise`, each arc brings its reverse.
    """
    kept = source != target
    loop_free = bool(kept.all())
    first = target.astype(np.int64) if loop_free else target[kept].astype(np.int64)
    second = source if loop_free else source[kept]
    keys = np.empty(first.size * (2 if symmetrise else 1), np.int64)
    np.multiply(first, num_nodes, out=keys[: first.size])
    keys[: first.size] += second
    if symmetrise:
        np.multiply(second, num_nodes, out=keys[first.size :], dtype=np.int64, casting="unsafe")
        keys[first.size :] += first
    del first, second, kept
    return csr_from_keys(sorted_unique(keys), num_nodes)


def csr_from_keys(keys: Int64Array, num_nodes: int) -> tuple[Int64Array, IntArray]:
    """CSR of ascending distinct keys row * N + column."""
    indices = np.empty(keys.size, index_dtype(num_nodes))
    counts = np.zeros(num_nodes, np.int64)
    chunk = 1 << 22
    for start in range(0, keys.size, chunk):
        rows, columns = np.divmod(keys[start : start + chunk], num_nodes)
        indices[start : start + chunk] = columns
        first, last = int(rows[0]), int(rows[-1]) + 1
        counts[first:last] += np.bincount(rows - first, minlength=last - first)
    return splits_from_counts(counts), indices


def splits_from_counts(counts: IntArray | BoolArray) -> Int64Array:
    """Cumulative counts with a leading zero: int64 [len + 1]."""
    splits = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=splits[1:])
    return splits


def row_entries(indptr: Int64Array, rows: IntArray) -> tuple[Int64Array, Int64Array]:
    """Where the entries of `rows` [R] are: (splits int64 [R+1], index int64 [entries]), row after row."""
    starts = indptr[rows]
    splits = splits_from_counts(indptr[rows + 1] - starts)
    index = np.arange(splits[-1], dtype=np.int64)
    index += np.repeat(starts - splits[:-1], np.diff(splits))
    return splits, index


def row_numbers(indptr: Int64Array) -> IntArray:
    """The row of every entry, [E]."""
    rows = indptr.size - 1
    return np.repeat(np.arange(rows, dtype=index_dtype(rows)), np.diff(indptr))


def transposed(indptr: Int64Array, indices: IntArray) -> tuple[Int64Array, IntArray]:
    """CSR of the reversed arcs of a square CSR."""
    num_nodes = indptr.size - 1
    keys = indices.astype(np.int64) * num_nodes
    keys += row_numbers(indptr)
    keys.sort()
    return csr_from_keys(keys, num_nodes)


def undirected(indptr: Int64Array, indices: IntArray) -> tuple[Int64Array, IntArray]:
    """CSR with every arc in both directions, each once."""
    return csr_from_arcs(indices, row_numbers(indptr), indptr.size - 1, symmetrise=True)
