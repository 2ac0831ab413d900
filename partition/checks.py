"""Whether the arrays of a part fit together: whoever indexes with them afterwards stays within them.

A SHA-256 says that a file is what somebody wrote, not that `bnsgcn partition` did. Each array is passed over
once, in stretches that stay in the cache.

Shapes:
    I inner rows   H halo slots   S boundary rows   P parts   E entries
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, Int64Array, IntArray
from partition.errors import UserError
from partition.labels import NONE, TEST
from partition.manifest import AGAIN, Manifest
from partition.part import WEIGHTS, CsrFeatures, Part

STRETCH = 1 << 18
"""Entries looked at together."""


def check_part(part: Part, where: Path) -> None:
    """Check what others index with: all but the values of features. dtypes and shapes are known to be right.

    Raises:
        UserError: an array contradicts itself, the others or the manifest; `where` names the folder.
    """
    _check_lists(where, "inner", "indptr", part.inner_indptr, "indices", part.inner_indices, part.num_inner)
    _check_lists(where, "halo", "indptr", part.halo_indptr, "indices", part.halo_indices, part.num_halo)
    _check_lists(
        where, "boundary", "splits", part.boundary_splits, "rows", part.boundary_rows, part.num_inner
    )
    if isinstance(features := part.features, CsrFeatures):
        lists = ("splits", features.splits, "columns", features.columns)
        _check_lists(where, "feature", *lists, features.num_columns)
        if features.values.size != features.columns.size:
            _refuse(where, "feature_values", f"{features.values.size} for {features.columns.size} columns")
    for name, weights in _weights(part).items():
        if weights.size != (arcs := getattr(part, name.replace("weights", "indices")).size):
            _refuse(where, name, f"{weights.size} weights for {arcs} arcs")
    _check_halo(part, where)
    own = part.boundary_splits[part.index : part.index + 2]
    if own[0] != own[1]:
        _refuse(where, "boundary_splits", f"{own[1] - own[0]} rows are read by the part itself")
    _check_degrees(part, where)
    _check_ids(where, part.node_ids, part.manifest)
    _check_labels(part, where)


def check_values(part: Part, where: Path) -> None:
    """Check the rest, which takes longer: features and weights are finite, undirected arcs go both ways.

    Raises:
        UserError: they are not, it has not; `where` names the folder.
    """
    _check_features(part, where)
    for name, weights in _weights(part).items():
        _check_weights(where, name, weights)
    if part.manifest.directed:
        return
    if not is_symmetric(Adjacency(part.inner_indptr, part.inner_indices)):
        _refuse(where, "inner_indices", "the graph is undirected, but some arcs go one way")
    if not is_symmetric(Adjacency(part.inner_indptr, part.inner_indices, part.inner_weights)):
        _refuse(where, "inner_weights", "the graph is undirected, but some arcs weigh less one way")


def _weights(part: Part) -> dict[str, npt.NDArray[np.float32]]:
    """The weights that the part has, by name."""
    found = {name: getattr(part, name) for name in WEIGHTS}
    return {name: weights for name, weights in found.items() if weights is not None}


def _check_weights(where: Path, name: str, weights: npt.NDArray[np.float32]) -> None:
    for start in range(0, weights.size, STRETCH):
        piece = weights[start : start + STRETCH]
        wrong = ~((piece >= 0) & (piece < np.inf))
        if wrong.any():
            arc = start + int(wrong.argmax())
            _refuse(where, name, f"arc {arc} weighs {weights[arc]}")


def is_symmetric(adjacency: Adjacency) -> bool:
    """Whether x A y = y A x for random x, y, modulo 2^64: others pass with a chance of about 2^-60.

    An arc counts as often as the bits of its weight say; unlike ones pass with a chance of at most 2^-28.
    """
    x, y = np.random.default_rng(0x5E1F).integers(0, 2**64, (2, adjacency.num_nodes), np.uint64)
    difference = 0
    for first, last in adjacency.stretches(arcs=STRETCH):
        degree = np.diff(adjacency.indptr[first : last + 1])
        columns = adjacency.indices[adjacency.indptr[first] : adjacency.indptr[last]]
        there = np.repeat(x[first:last], degree) * y[columns]
        back = np.repeat(y[first:last], degree) * x[columns]
        there -= back
        if adjacency.weights is not None:
            there *= adjacency.weights[adjacency.indptr[first] : adjacency.indptr[last]].view(np.uint32)
        difference += int(there.sum())
    return difference % 2**64 == 0


def _refuse(where: Path, name: str, what: str) -> NoReturn:
    raise UserError(f"{where / name}.npy: {what}; {AGAIN}")


def _check_lists(
    where: Path, of: str, splits_name: str, splits: Int64Array, name: str, entries: IntArray, below: int
) -> None:
    """`splits` cut `entries` into lists; within each they ascend, and all lie below `below`."""
    splits_name, name = f"{of}_{splits_name}", f"{of}_{name}"
    if splits[0] != 0 or splits[-1] != entries.size:
        _refuse(where, splits_name, f"from {splits[0]} to {splits[-1]}, but there are {entries.size} {name}")
    if (falls := splits[1:] < splits[:-1]).any():
        _refuse(where, splits_name, f"falls at {int(falls.argmax())}, where it may only rise")
    for first, last in Adjacency(splits, entries).stretches(arcs=STRETCH):
        ends, piece = splits[first : last + 1] - splits[first], entries[splits[first] : splits[last]]
        if piece.size == 0:
            continue
        low, high = int(piece.min()), int(piece.max())
        if low < 0 or high >= below:
            _refuse(where, name, f"{low if low < 0 else high} is out of range: 0 to {below - 1}")
        rises = piece[1:] > piece[:-1]
        starts = ends[(ends > 0) & (ends < piece.size)]
        rises[starts - 1] = True
        if not rises.all():
            at = int(splits[first]) + int(rises.argmin()) + 1
            _refuse(where, name, f"{entries[at]} follows {entries[at - 1]} at {at}, within one list")
        if of == "inner" and _has_loop(first, ends, piece):
            _refuse(where, name, f"a self loop in rows {first} to {last - 1}")


def _has_loop(first: int, ends: Int64Array, columns: IntArray) -> bool:
    rows = np.repeat(np.arange(first, first + ends.size - 1, dtype=columns.dtype), np.diff(ends))
    return bool((rows == columns).any())


def _check_halo(part: Part, where: Path) -> None:
    """Halo slots ascend, belong to other parts and are split by them."""
    offset = part.manifest.part_offset
    if part.halo_split.size != part.num_halo:
        _refuse(where, "halo_split", f"{part.halo_split.size} entries for {part.num_halo} halo slots")
    if not (part.halo_ids[1:] > part.halo_ids[:-1]).all():
        _refuse(where, "halo_ids", "they do not ascend")
    _check_range(where, "halo_ids", part.halo_ids, part.manifest.num_nodes - 1)
    expected = np.searchsorted(part.halo_ids, offset)
    if not np.array_equal(part.halo_splits, expected):
        at = int((part.halo_splits != expected).argmax())
        _refuse(where, "halo_splits", f"{part.halo_splits[at]} at {at}, but halo_ids say {expected[at]}")
    own = int(expected[part.index + 1] - expected[part.index])
    if own:
        _refuse(where, "halo_ids", f"{own} slots are nodes of the part itself")


def _check_degrees(part: Part, where: Path) -> None:
    arcs = np.diff(part.inner_indptr) + np.diff(part.halo_indptr)
    if int(arcs.sum()) > part.manifest.num_arcs:
        _refuse(where, "inner_indptr", f"{int(arcs.sum())} arcs, but {part.manifest.num_arcs} in all parts")
    if not np.array_equal(part.in_degree, arcs):
        row = int((part.in_degree != arcs).argmax())
        _refuse(where, "in_degree", f"{part.in_degree[row]} of row {row}, which has {arcs[row]} arcs")
    least = part.in_degree
    if part.manifest.directed:
        least = _counted(part.inner_indices, part.num_inner) + _counted(part.boundary_rows, part.num_inner)
    wrong = part.out_degree < least if part.manifest.directed else part.out_degree != least
    if wrong.any():
        row = int(wrong.argmax())
        _refuse(where, "out_degree", f"{part.out_degree[row]} of row {row}, which has {least[row]} arcs")


def _counted(columns: IntArray, rows: int) -> IntArray:
    """How often each row occurs, [rows]."""
    found: Int64Array = np.zeros(rows, np.int64)
    step = max(STRETCH, rows)
    for start in range(0, columns.size, step):
        found += np.bincount(columns[start : start + step], minlength=rows)
    return found


def _check_range(where: Path, name: str, numbers: IntArray, most: int, least: int = 0) -> None:
    low, high = int(numbers.min(initial=least)), int(numbers.max(initial=least))
    if low < least or high > most:
        _refuse(where, name, f"{low if low < least else high} is out of range: {least} to {most}")


def _check_ids(where: Path, node_ids: Int64Array, manifest: Manifest) -> None:
    _check_range(where, "node_ids", node_ids, manifest.num_nodes - 1)
    ascending = np.sort(node_ids)
    twice = ascending[1:][ascending[1:] == ascending[:-1]]
    if twice.size:
        _refuse(where, "node_ids", f"node {twice[0]} is there twice")


def _check_labels(part: Part, where: Path) -> None:
    manifest = part.manifest
    for name in ("split", "halo_split"):
        _check_range(where, name, getattr(part, name), TEST)
    if manifest.task == "multi":
        _check_range(where, "labels", part.labels, 1)
        return
    _check_range(where, "labels", part.labels, manifest.num_classes - 1, least=-1)
    if (lost := (part.split != NONE) & (part.labels < 0)).any():
        _refuse(where, "labels", f"row {int(lost.argmax())} is in a split but has no label")


def _check_features(part: Part, where: Path) -> None:
    """Every feature is a finite number."""
    if isinstance(part.features, CsrFeatures):
        if not (finite := np.isfinite(part.features.values)).all():
            row = int(np.searchsorted(part.features.splits, finite.argmin(), side="right")) - 1
            _refuse(where, "feature_values", f"row {row} holds NaN or infinity")
        return
    step = max(1, STRETCH // part.manifest.num_features)
    for start in range(0, part.num_inner, step):
        piece = part.features[start : start + step]
        with np.errstate(all="ignore"):
            total = piece.sum()  # not finite where one of them is not; the other way round it may overflow
        if not np.isfinite(total) and not np.isfinite(piece).all():
            row = start + int(np.isfinite(piece).all(axis=1).argmin())
            _refuse(where, "features", f"row {row} holds NaN or infinity")
