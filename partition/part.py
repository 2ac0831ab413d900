"""One worker's share of the graph, array by array.

Shapes:
    I inner rows   H halo slots   S boundary rows   F features   E features that are set   C classes   P parts
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.adjacency import Int64Array
from partition.manifest import CSR, Manifest

SPARSE_BELOW = 0.1
"""Share of entries that are set up to which features are stored and multiplied as sparse.

Products then take half as long as those of dense rows, and entries with their places half the memory.
"""

Int32Array = npt.NDArray[np.int32]
ByteArray = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class CsrFeatures:
    """Features of which only those that are set are stored."""

    splits: Int64Array
    """[I+1]; row = inner row."""
    columns: Int32Array
    """[E], ascending within a row."""
    values: npt.NDArray[np.float32]
    """[E]"""
    num_columns: int

    @property
    def nbytes(self) -> int:
        """Bytes of all three arrays."""
        return int(self.splits.nbytes + self.columns.nbytes + self.values.nbytes)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One worker's share of the graph; arrays are memory-mapped copy-on-write.

    Self loops are not stored. Degrees are those in the whole graph, without self loops.
    """

    index: int
    manifest: Manifest
    inner_indptr: Int64Array
    """[I+1]; row = inner row."""
    inner_indices: Int32Array
    """Sources that are inner rows, ascending within a row."""
    halo_indptr: Int64Array
    """[I+1]; row = inner row."""
    halo_indices: Int32Array
    """Sources that are halo slots, ascending within a row."""
    halo_ids: Int64Array
    """[H] global id of each halo slot: offset of the owner + owner-local row; ascending."""
    halo_splits: Int64Array
    """[P+1] halo slots by owner."""
    boundary_rows: Int32Array
    """[S] inner rows, by reader, ascending: in the order of the reader's halo slots of this owner."""
    boundary_splits: Int64Array
    """[P+1] boundary rows by reader."""
    in_degree: Int32Array
    """[I] arcs into the node, whole graph."""
    out_degree: Int32Array
    """[I] arcs out of the node, whole graph."""
    features: npt.NDArray[np.float32] | CsrFeatures
    """[I, F]"""
    labels: npt.NDArray[Any]
    """int64 [I], -1 = unlabelled; or uint8 [I, C]."""
    split: ByteArray
    """[I] 0 none, 1 train, 2 val, 3 test."""
    halo_split: ByteArray
    """[H]"""
    node_ids: Int64Array
    """[I] original node ids."""
    inner_weights: npt.NDArray[np.float32] | None = None
    """One for each of `inner_indices`; None where the graph has no edge weights."""
    halo_weights: npt.NDArray[np.float32] | None = None
    """One for each of `halo_indices`."""

    @property
    def num_inner(self) -> int:
        """I."""
        return int(self.node_ids.size)

    @property
    def num_halo(self) -> int:
        """H."""
        return int(self.halo_ids.size)


WEIGHTS = ("inner_weights", "halo_weights")
"""Files of a weighted graph alone."""
_OTHERS = ("index", "manifest", *WEIGHTS)
ARRAYS = tuple(field.name for field in dataclasses.fields(Part) if field.name not in _OTHERS)
"""The files of an unweighted part with dense features."""

Layout = dict[str, tuple[np.dtype[Any], tuple[int | None, ...]]]


def array_layout(manifest: Manifest, part: int) -> Layout:
    """dtype and shape of every array of a part; None where the manifest does not say how long it is."""
    rows, splits = manifest.part_nodes[part], (manifest.parts + 1,)
    labels = (np.int64, (rows,)) if manifest.task == "single" else (np.uint8, (rows, manifest.num_classes))
    found: dict[str, tuple[type, tuple[int | None, ...]]] = {
        "inner_indptr": (np.int64, (rows + 1,)),
        "inner_indices": (np.int32, (None,)),
        "halo_indptr": (np.int64, (rows + 1,)),
        "halo_indices": (np.int32, (None,)),
        "halo_ids": (np.int64, (None,)),
        "halo_splits": (np.int64, splits),
        "boundary_rows": (np.int32, (None,)),
        "boundary_splits": (np.int64, splits),
        "in_degree": (np.int32, (rows,)),
        "out_degree": (np.int32, (rows,)),
        **_feature_layout(manifest, rows),
        "labels": labels,
        "split": (np.uint8, (rows,)),
        "halo_split": (np.uint8, (None,)),
        "node_ids": (np.int64, (rows,)),
        **(dict.fromkeys(WEIGHTS, (np.float32, (None,))) if manifest.weighted else {}),
    }
    return {name: (np.dtype(kind), shape) for name, (kind, shape) in found.items()}


def _feature_layout(manifest: Manifest, rows: int) -> dict[str, tuple[type, tuple[int | None, ...]]]:
    if manifest.feature_storage == CSR:
        return {
            "feature_splits": (np.int64, (rows + 1,)),
            "feature_columns": (np.int32, (None,)),
            "feature_values": (np.float32, (None,)),
        }
    return {"features": (np.float32, (rows, manifest.num_features))}


def part_of_arrays(index: int, manifest: Manifest, arrays: dict[str, npt.NDArray[Any]]) -> Part:
    """The part whose files hold `arrays`, those of `array_layout`."""
    others = dict(arrays)
    if manifest.feature_storage == CSR:
        splits, columns, values = (others.pop(f"feature_{name}") for name in ("splits", "columns", "values"))
        features = CsrFeatures(splits, columns, values, manifest.num_features)
        return Part(index=index, manifest=manifest, features=features, **others)
    return Part(index=index, manifest=manifest, **others)
