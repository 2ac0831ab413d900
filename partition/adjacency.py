"""Arcs into CSR, and the few CSR operations that everything here is made of.

Row i of a CSR lists the sources j of the arcs j -> i: ascending, each once, no self loop.

Shapes:
    N nodes   E arcs   R rows picked
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.disk import said_when_full
from partition.errors import UserError

IntArray = npt.NDArray[np.integer[Any]]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SCAN_ARCS = 1 << 23


@dataclasses.dataclass(frozen=True, eq=False)
class Adjacency:
    """Arcs between N nodes by their target."""

    indptr: Int64Array
    """int64 [N+1]"""
    indices: IntArray
    """int32 or int64 [E]; may be memory-mapped."""
    weights: npt.NDArray[np.float32] | None = None
    """[E], None = all 1; whatever is made of an adjacency has none: nodes are assigned by the arcs alone."""

    def __post_init__(self) -> None:
        assert self.indptr.dtype == np.int64
        assert self.indptr[0] == 0
        assert self.indptr[-1] == self.indices.size
        assert self.weights is None or self.weights.shape == self.indices.shape

    @property
    def num_nodes(self) -> int:
        """N."""
        return int(self.indptr.size - 1)

    @property
    def num_arcs(self) -> int:
        """E; an undirected edge is two arcs."""
        return int(self.indices.size)

    @property
    def degree(self) -> Int64Array:
        """Arcs into each node, [N]."""
        return np.diff(self.indptr)

    def with_indices(self, dtype: type[np.integer[Any]]) -> Adjacency:
        """The same with indices of another width, copied only if they have it not yet."""
        return Adjacency(self.indptr, self.indices.astype(dtype, copy=False))

    def transposed(self) -> Adjacency:
        """Every arc reversed."""
        keys = self.indices.astype(np.int64) * self.num_nodes
        keys += row_numbers(self.indptr)
        keys.sort()
        return csr_from_keys(keys, self.num_nodes)

    def undirected(self) -> Adjacency:
        """Every arc in both directions, each once."""
        return csr_from_arcs(self.indices, row_numbers(self.indptr), self.num_nodes, symmetrise=True)

    def stretches(self, *, arcs: int, rows: int | None = None) -> Iterator[tuple[int, int]]:
        """Ranges of rows (first, last + 1) with at most `arcs` arcs and `rows` rows, but one row at least."""
        start = 0
        while start < self.num_nodes:
            stop = int(np.searchsorted(self.indptr, self.indptr[start] + arcs, side="right")) - 1
            stop = min(max(stop, start + 1), start + (rows or self.num_nodes), self.num_nodes)
            yield start, stop
            start = stop


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
    source: IntArray,
    target: IntArray,
    num_nodes: int,
    *,
    symmetrise: bool,
    scratch: Path | None = None,
    bucket: int = 1 << 26,
) -> Adjacency:
    """The arcs source -> target, which may be memory-mapped.

    Self loops are dropped and duplicates merged; with `symmetrise`, each arc brings its reverse. Rows are
    made in ranges of about `bucket` arcs, each from one scan of the arcs, so that besides the result only
    one range is in memory; with `scratch`, a folder, the result itself is a memory-mapped file there.
    """
    ranges = _row_ranges(source, target, num_nodes, symmetrise=symmetrise, bucket=bucket)
    counts = np.zeros(num_nodes, np.int64)

    def pieces() -> Iterator[IntArray]:
        for first, last in itertools.pairwise(ranges):
            keys = sorted_unique(_range_keys(source, target, num_nodes, first, last, symmetrise=symmetrise))
            piece = csr_from_keys(keys, num_nodes)
            del keys
            counts[first:last] = piece.degree[: last - first]
            yield piece.indices

    if scratch is None:
        columns = list(pieces())
        indices = columns[0] if len(columns) == 1 else _joined(columns, num_nodes)
    else:
        indices = _on_disk(pieces(), scratch, index_dtype(num_nodes))
    return Adjacency(splits_from_counts(counts), indices)


def _on_disk(pieces: Iterable[IntArray], scratch: Path, dtype: np.dtype[np.integer[Any]]) -> IntArray:
    """The pieces one after the other in a file without a name, which ends with the mapping or the process."""
    if not scratch.is_dir():
        raise UserError(f"{scratch}: no such folder; scratch= names one for the memory-mapped adjacency")
    written = 0
    with tempfile.TemporaryFile(dir=scratch) as file:
        with said_when_full(scratch, "the adjacency does not fit", "make room or name another scratch="):
            for piece in pieces:
                written += file.write(piece.data)
            file.flush()
        return np.memmap(file, dtype, mode="r") if written else np.empty(0, dtype)


def _joined(columns: list[IntArray], num_nodes: int) -> IntArray:
    """The pieces one after the other, each freed once it is copied."""
    joined = np.empty(sum(piece.size for piece in columns), index_dtype(num_nodes))
    start = 0
    for number, piece in enumerate(columns):
        joined[start : start + piece.size] = piece
        start += piece.size
        columns[number] = piece[:0]
    return joined


def _row_ranges(
    source: IntArray, target: IntArray, num_nodes: int, *, symmetrise: bool, bucket: int
) -> list[int]:
    """Row numbers that cut the rows into ranges of at most about `bucket` arcs each, 0 and N included."""
    if source.size * (1 + symmetrise) <= bucket:
        return [0, num_nodes]
    counts = np.zeros(num_nodes, np.int64)
    for start in range(0, source.size, SCAN_ARCS):
        counts += np.bincount(target[start : start + SCAN_ARCS], minlength=num_nodes)
        if symmetrise:
            counts += np.bincount(source[start : start + SCAN_ARCS], minlength=num_nodes)
    splits = splits_from_counts(counts)
    pieces = int(-(-splits[-1] // bucket))
    cuts = np.searchsorted(splits, np.arange(1, pieces) * (splits[-1] / pieces))
    return [0, *np.unique(cuts[(cuts > 0) & (cuts < num_nodes)]).tolist(), num_nodes]


def _range_keys(
    source: IntArray, target: IntArray, num_nodes: int, first: int, last: int, *, symmetrise: bool
) -> Int64Array:
    """Keys (row - first) * N + column of the arcs into rows first..last-1, loops left out, repeats kept."""
    found = []
    for start in range(0, source.size, SCAN_ARCS):
        ends = (source[start : start + SCAN_ARCS], target[start : start + SCAN_ARCS])
        for columns, rows in (ends, ends[::-1]) if symmetrise else (ends,):
            kept = rows != columns
            if first > 0 or last < num_nodes:
                kept &= (rows >= first) & (rows < last)
            keys = (rows if kept.all() else rows[kept]).astype(np.int64)
            keys -= first
            keys *= num_nodes
            keys += columns if kept.all() else columns[kept]
            found.append(keys)
    return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.int64), *found])


def csr_from_keys(keys: Int64Array, num_nodes: int) -> Adjacency:
    """The arcs of ascending distinct keys row * N + column."""
    indices = np.empty(keys.size, index_dtype(num_nodes))
    counts = np.zeros(num_nodes, np.int64)
    chunk = 1 << 22
    for start in range(0, keys.size, chunk):
        rows, columns = np.divmod(keys[start : start + chunk], num_nodes)
        indices[start : start + chunk] = columns
        first, last = int(rows[0]), int(rows[-1]) + 1
        counts[first:last] += np.bincount(rows - first, minlength=last - first)
    return Adjacency(splits_from_counts(counts), indices)


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
