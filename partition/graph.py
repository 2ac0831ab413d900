"""A whole graph with features, labels and split, checked once; everything after it may rely on it.

Shapes:
    N nodes   E arcs   F features   C classes (tasks, for multi-label)
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import Adjacency, Int64Array, IntArray, csr_from_arcs
from partition.errors import UserError
from partition.labels import (
    NONE,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    VAL,
    Task,
    as_labels,
    count_classes,
    labelled_split,
    seeded_split,
)

Features = Any  # float32 [N, F]: ndarray, memmap or scipy CSR matrix (scipy has no stubs)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """A node-classification graph.

    Raises ValueError, one line, where features, labels or split do not fit together; the structure
    (sorted rows, no loops, no duplicates) comes from `csr_from_arcs` and is asserted only.
    """

    adjacency: Adjacency
    features: Features
    """float32 [N, F]: ndarray, memmap or scipy CSR."""
    labels: npt.NDArray[Any]
    """int64 [N], -1 = unlabelled; or uint8 [N, C], used where the node is in a split."""
    split: npt.NDArray[np.uint8]
    """uint8 [N]: 0 none, 1 train, 2 val, 3 test."""
    num_classes: int
    task: Task
    directed: bool = False
    name: str = "graph"
    source: str = ""
    notes: tuple[str, ...] = ()
    """What was decided while reading and should be said aloud."""
    part_of: npt.NDArray[np.int32] | None = None
    """int32 [N]: the part of each node, where the source came cut already (`--method source`)."""

    def __post_init__(self) -> None:
        if self.num_nodes == 0:
            raise UserError(f"{self.name}: 0 nodes; a graph needs at least 1")
        _check_features(self.name, self.features, self.num_nodes)
        _check_labels(self)
        _check_split(self)

    @property
    def indptr(self) -> Int64Array:
        """int64 [N+1]; row i lists the sources of the arcs into i."""
        return self.adjacency.indptr

    @property
    def indices(self) -> IntArray:
        """int32 or int64 [E]; ascending within a row."""
        return self.adjacency.indices

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.adjacency.num_nodes

    @property
    def num_arcs(self) -> int:
        """E; an undirected edge is two arcs."""
        return self.adjacency.num_arcs

    @property
    def num_features(self) -> int:
        """F."""
        return int(self.features.shape[1])

    def in_degree(self) -> IntArray:
        """Arcs into each node, int32 [N]."""
        return self.adjacency.degree.astype(np.int32)

    def out_degree(self) -> IntArray:
        """Arcs out of each node, int32 [N]."""
        if not self.directed:
            return self.in_degree()
        return np.bincount(self.indices, minlength=self.num_nodes).astype(np.int32)

    def digest(self) -> str:
        """SHA-256 of the content (not of the name): the same graph, the same digest."""
        digest = hashlib.sha256(f"{self.num_nodes} {self.task} {self.num_classes}".encode())
        sparse = sp.issparse(self.features)
        pieces = (
            (self.features.data, self.features.indices, self.features.indptr) if sparse else (self.features,)
        )
        for array in (self.indptr, self.indices, self.labels, self.split, *pieces):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            rows = max(1, (1 << 24) // max(1, array[:1].nbytes))
            for start in range(0, array.shape[0], rows):
                digest.update(np.ascontiguousarray(array[start : start + rows]).data.cast("B"))
        return digest.hexdigest()

    @classmethod
    def from_arrays(
        cls,
        edge_index: npt.ArrayLike,
        *,
        features: Features,
        labels: npt.ArrayLike,
        split: npt.ArrayLike | None = None,
        num_classes: int | None = None,
        directed: bool = False,
        name: str = "graph",
        source: str = "",
        notes: tuple[str, ...] = (),
        split_seed: int = 0,
        part_of: npt.NDArray[np.int32] | None = None,
    ) -> Graph:
        """Graph of arcs `edge_index` [2, E] (source row, target row), in memory.

        Arcs are symmetrised unless `directed`, duplicates merged, self loops removed. `labels` is
        [N] class ids (NaN or -1 = unlabelled) or multi-hot [N, C]. `split` is uint8 [N]; without
        one, the labelled nodes are split 60/20/20 by `split_seed`, and a note says so.
        """
        label_array, task = as_labels(name, np.asarray(labels))
        num_nodes = label_array.shape[0]
        arcs = checked_arcs(name, np.asarray(edge_index), num_nodes)
        adjacency = csr_from_arcs(arcs[0], arcs[1], num_nodes, symmetrise=not directed)
        labelled = label_array >= 0 if task == "single" else np.ones(num_nodes, np.bool_)
        if split is None:
            split, note = seeded_split(labelled, split_seed)
            notes = (*notes, note)
        split_array, dropped = labelled_split(np.asarray(split, np.uint8), labelled)
        if dropped:
            notes = (*notes, f"{dropped} nodes of the split have no label and were left out of it")
        return cls(
            adjacency=adjacency,
            features=as_features(features),
            labels=label_array,
            split=split_array,
            num_classes=num_classes or count_classes(name, label_array, task),
            task=task,
            directed=directed,
            name=name,
            source=source,
            notes=notes,
            part_of=part_of,
        )

    @classmethod
    def from_dgl(cls, graph: Any, **options: Any) -> Graph:
        """Graph of a homogeneous DGLGraph; options as `partition.interchange.from_dgl`."""
        from partition import interchange

        return interchange.from_dgl(graph, **options)

    @classmethod
    def from_pyg(cls, data: Any, **options: Any) -> Graph:
        """Graph of a homogeneous PyG Data; options as `partition.interchange.from_pyg`."""
        from partition import interchange

        return interchange.from_pyg(data, **options)

    def to_dgl(self) -> Any:
        """A DGLGraph with `feat`, `label`, `train_mask`, `val_mask`, `test_mask`."""
        from partition import interchange

        return interchange.to_dgl(self)

    def to_pyg(self) -> Any:
        """A PyG Data with `x`, `y`, `edge_index` and the three masks."""
        from partition import interchange

        return interchange.to_pyg(self)


def checked_arcs(name: str, edge_index: npt.NDArray[Any], num_nodes: int) -> IntArray:
    """`edge_index` as integers [2, E]; ValueError for another shape, a fraction or a node beyond N."""
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise UserError(f"{name}: edge_index has shape {edge_index.shape}; expected [2, E]")
    if not np.issubdtype(edge_index.dtype, np.integer):
        raise UserError(f"{name}: edge_index has dtype {edge_index.dtype}; expected int32 or int64")
    if edge_index.shape[1]:
        low, high = int(edge_index.min()), int(edge_index.max())
        if low < 0 or high >= num_nodes:
            wrong = low if low < 0 else high
            column = int(np.flatnonzero((edge_index == wrong).any(axis=0))[0])
            raise UserError(
                f"{name}: edge {column} names node {wrong}, but there are {num_nodes} nodes (labels); "
                f"ids go from 0 to {num_nodes - 1}"
            )
    return edge_index


def as_features(features: Features) -> Features:
    """float32, without loading a memmap that already is."""
    if sp.issparse(features):
        matrix = sp.csr_matrix(features)
        matrix.sum_duplicates()
        return matrix if matrix.dtype == np.float32 else matrix.astype(np.float32)
    array = features if isinstance(features, np.ndarray) else np.asarray(features)
    return array if array.dtype == np.float32 else array.astype(np.float32)


def _check_features(name: str, features: Features, num_nodes: int) -> None:
    if features.ndim != 2 or features.shape[0] != num_nodes or features.shape[1] == 0:
        raise UserError(
            f"{name}: features have shape {tuple(features.shape)}, but there are {num_nodes} nodes (labels); "
            f"expected [{num_nodes}, F] with F >= 1"
        )
    if sp.issparse(features):
        if not np.isfinite(features.data).all():
            entry = int(np.flatnonzero(~np.isfinite(features.data))[0])
            row = int(np.searchsorted(features.indptr, entry, side="right")) - 1
            _raise_not_finite(name, row, num_nodes)
        return
    step = max(1, (1 << 22) // features.shape[1])
    for start in range(0, num_nodes, step):
        finite = np.isfinite(features[start : start + step])
        if not finite.all():
            _raise_not_finite(name, start + int(np.flatnonzero(~finite.all(axis=1))[0]), num_nodes)


def _raise_not_finite(name: str, row: int, num_nodes: int) -> None:
    raise UserError(
        f"{name}: features of row {row} (of {num_nodes}) hold NaN or infinity; "
        "replace them in the source, for example with numpy.nan_to_num"
    )


def _check_labels(graph: Graph) -> None:
    if graph.labels.shape[0] != graph.num_nodes:
        raise UserError(f"{graph.name}: {graph.labels.shape[0]} labels for {graph.num_nodes} nodes")
    if graph.task == "multi":
        assert graph.labels.dtype == np.uint8
        assert graph.labels.ndim == 2
        return
    low, high = int(graph.labels.min()), int(graph.labels.max())
    if low < -1 or high >= graph.num_classes:
        wrong = low if low < -1 else high
        node = int(np.flatnonzero(graph.labels == wrong)[0])
        raise UserError(
            f"{graph.name}: label {wrong} of node {node} is out of range with {graph.num_classes} classes; "
            f"class ids go from 0 to {graph.num_classes - 1}, and -1 means unlabelled"
        )


def _check_split(graph: Graph) -> None:
    if graph.split.shape != (graph.num_nodes,) or graph.split.dtype != np.uint8:
        raise UserError(f"{graph.name}: split of shape {graph.split.shape} for {graph.num_nodes} nodes")
    counts = np.bincount(graph.split, minlength=4)
    if counts.size > 4:
        raise UserError(
            f"{graph.name}: split code {counts.size - 1}; codes are 0 none, 1 train, 2 val, 3 test"
        )
    for code, part in SPLIT_NAMES.items():
        if counts[code] == 0:
            raise UserError(
                f"{graph.name}: the {part} split is empty (0 of {graph.num_nodes} nodes); training, choosing "
                "and scoring need at least one labelled node each"
            )


__all__ = [
    "NONE",
    "SPLIT_NAMES",
    "TEST",
    "TRAIN",
    "VAL",
    "Features",
    "Graph",
    "Task",
    "as_features",
    "checked_arcs",
]
