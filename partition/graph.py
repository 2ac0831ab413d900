"""A whole graph with features, labels and split, checked once; everything after it may rely on it.

Shapes:
    N nodes   E arcs   F features   C classes (tasks, for multi-label)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition import interchange
from partition.adjacency import Adjacency, BoolArray, Int64Array, IntArray, row_numbers
from partition.arrays import WHOLE, as_numpy, check_kind
from partition.edges import adjacency_of
from partition.errors import UserError, printable
from partition.features import (
    WAYS_OUT,
    Features,
    check_features,
    dense_features,
    feature_storage,
    read_features,
    recipe_and_storage,
)
from partition.labels import (
    NONE,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    VAL,
    Task,
    as_labels,
    as_split,
    checked_seed,
    count_classes,
    labelled_nodes,
    labelled_split,
    seeded_split,
    stated_classes,
)
from partition.scaled import scaled_features, scaling_of
from partition.scaling import Scaling, ScalingKind
from partition.weights import uses_weights


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """A node-classification graph.

    The structure (sorted rows, no loops, no duplicates) comes from `csr_from_arcs` and is believed.

    Raises:
        UserError: features, labels or split do not fit together.
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
    stored: str = ""
    """How parts store the features, sparse or dense; empty = sparse where that pays."""
    scaling: Scaling | None = None
    """What was done to the features, for parts to remember; None = they are as they came."""

    def __post_init__(self) -> None:
        if self.num_nodes == 0:
            raise UserError(f"{self.name}: 0 nodes; a graph needs at least 1")
        check_features(self.name, self.features, self.num_nodes)
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
    def weights(self) -> npt.NDArray[np.float32] | None:
        """float32 [E] of the arcs; None where all weigh 1."""
        return self.adjacency.weights

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

    @property
    def feature_storage(self) -> str:
        """How parts store the features, in the manifest's words."""
        return feature_storage(self.features, self.stored)

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
        if self.weights is not None:
            pieces = (*pieces, self.weights)
        for array in (self.indptr, self.indices, self.labels, self.split, *pieces):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            rows = max(1, (1 << 24) // max(1, array[:1].nbytes))
            for start in range(0, array.shape[0], rows):
                digest.update(np.ascontiguousarray(array[start : start + rows]).data.cast("B"))
        return digest.hexdigest()

    def standardised(self) -> Graph:
        """The same with each feature at mean 0 and variance 1 over the training nodes."""
        return self.scaled("standardise")

    def scaled(self, how: ScalingKind | Scaling) -> Graph:
        """The same with scaled features: by its own training nodes, or as another graph's were."""
        if not isinstance(how, Scaling):
            how = scaling_of(how, self.name, self.features, self.split == TRAIN, self.stored)
        return dataclasses.replace(self, features=scaled_features(self.name, self.features, how), scaling=how)

    @classmethod
    def from_arrays(
        cls,
        edge_index: npt.ArrayLike | Callable[[], npt.ArrayLike],
        *,
        features: Features | Callable[[], Features],
        stored: str = "",
        labels: npt.ArrayLike,
        edge_weight: npt.ArrayLike | Callable[[], npt.ArrayLike] | None = None,
        split: Any = None,
        num_classes: npt.ArrayLike | None = None,
        directed: bool = False,
        name: str = "graph",
        where: str = "",
        source: str = "",
        notes: tuple[str, ...] = (),
        split_seed: int = 0,
        part_of: npt.NDArray[np.int32] | None = None,
        labelled: npt.ArrayLike | None = None,
        scratch: Path | None = None,
    ) -> Graph:
        """Graph of arcs `edge_index` [2, E] (source row, target row).

        Arcs are symmetrised unless `directed`, duplicates merged, self loops removed; `edge_weight` [E], 0 or
        more, is merged as partition/weights.py says, which decides nothing about the parts. `features` is an
        array, a scipy matrix or a recipe, `degree` or `random:64`; parts hold them `stored` "sparse" or
        "dense", or sparse where that pays. `labels` is [N] class ids (NaN or -1 = unlabelled) or multi-hot
        [N, C]; with `labelled` (node ids or a mask) only those nodes' count. `split` is [N] codes, 0 none, 1
        train, 2 val, 3 test, or three lists (train, val, test) of ids or masks; without one, the labelled
        nodes are split 60/20/20 by `split_seed`, and a note says so. With `scratch`, a folder, the adjacency
        is kept there, memory-mapped. Errors name `where` the arrays come from, or else the graph. The first
        two arrays and `features` may be functions that read them.

        Raises:
            UserError: something does not fit together.
        """
        where = where or name
        label_array, task = as_labels(where, as_numpy(f"{where}: label", labels))
        num_nodes = label_array.shape[0]
        adjacency, weighed = adjacency_of(
            where, edge_index, num_nodes, directed=directed, scratch=scratch, edge_weight=edge_weight
        )
        known = labelled_nodes(where, label_array, task, labelled)
        codes, said = _split(where, split, known, checked_seed(f"{where}: split_seed", split_seed))
        _check_parts(where, part_of)
        return cls(
            adjacency=adjacency,
            features=read_features(where, features, adjacency.degree, stored),
            stored=stored,
            labels=label_array,
            split=codes,
            num_classes=_classes(where, num_classes, label_array, task),
            task=task,
            directed=directed,
            name=printable(name),
            source=source,
            notes=(*notes, *weighed, *said),
            part_of=part_of,
        )

    @classmethod
    def from_dgl(cls, graph: Any, *, name: str = "dgl", features: str = "", **more: Any) -> Graph:
        """Graph of a homogeneous DGLGraph; the rest as for `from_arrays`.

        `features` is a recipe for them, or how those of the graph are stored, `sparse` or `dense`.
        Edge weights are looked for as partition/interchange.py says; `edge_weights="ignore"` leaves them out.
        """
        return cls.assembled(interchange.from_dgl(graph, name), name=name, features=features, **more)

    @classmethod
    def from_pyg(cls, data: Any, *, name: str = "pyg", features: str = "", **more: Any) -> Graph:
        """Graph of a homogeneous PyG Data; `features`, `edge_weights` and the rest as for `from_dgl`."""
        return cls.assembled(interchange.from_pyg(data, name), name=name, features=features, **more)

    @classmethod
    def assembled(
        cls,
        found: interchange.GraphArrays,
        *,
        name: str,
        features: str,
        num_classes: int = 0,
        edge_weights: str = "use",
        **more: Any,
    ) -> Graph:
        """Graph of what another library holds; `features` is as for `from_dgl`."""
        recipe, stored = recipe_and_storage(features)
        if (table := recipe or found.features) is None:
            keys = ", ".join(interchange.FEATURE_KEYS)
            raise UserError(f"{name}: no node features under {keys}; use {WAYS_OUT}")
        return cls.from_arrays(
            found.edge_index,
            edge_weight=found.edge_weight if uses_weights(name, edge_weights) else None,
            features=table,
            stored=stored,
            labels=found.labels,
            split=found.masks,
            num_classes=num_classes or None,
            name=name,
            **more,
        )

    def to_dgl(self) -> Any:
        """A DGLGraph with `feat`, `label`, `train_mask`, `val_mask`, `test_mask`; `w` of weighted edges."""
        return interchange.to_dgl(self._arrays())

    def to_pyg(self) -> Any:
        """A PyG Data with `x`, `y`, `edge_index`, the three masks, and `edge_weight` of weighted edges."""
        return interchange.to_pyg(self._arrays())

    def _arrays(self) -> interchange.GraphArrays:
        return interchange.GraphArrays(
            edge_index=np.stack([self.indices, row_numbers(self.indptr)]).astype(np.int64),
            edge_weight=None if self.weights is None else self.weights.copy(),
            features=dense_features(self.features),
            labels=np.array(self.labels),
            masks=tuple(self.split == code for code in SPLIT_NAMES),
        )


def _check_parts(name: str, part_of: npt.NDArray[Any] | None) -> None:
    if part_of is not None:
        check_kind(f"{name}: part_of", part_of, WHOLE, "part numbers")


def _classes(name: str, stated: npt.ArrayLike | None, labels: npt.NDArray[Any], task: Task) -> int:
    """How many classes there are, where nobody says so."""
    if stated is None:
        return count_classes(name, labels, task)
    return stated_classes(name, stated, labels.shape[0])


def _split(
    name: str, split: Any, labelled: BoolArray, seed: int
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Split codes of labelled nodes, uint8 [N], and what should be said about them."""
    if split is None:
        codes, note = seeded_split(labelled, seed)
        return codes, (note,)
    codes, dropped = labelled_split(as_split(name, split, labelled.size), labelled)
    notes = [f"{dropped} nodes of the split have no label and were left out of it"] if dropped else []
    if not (codes == VAL).any():
        notes.append("no validation nodes in the source: train with --val-share, or name some")
    return codes, tuple(notes)


def _check_labels(graph: Graph) -> None:
    if graph.labels.shape[0] != graph.num_nodes:
        raise UserError(f"{graph.name}: {graph.labels.shape[0]} labels for {graph.num_nodes} nodes")
    if graph.task == "multi":
        assert graph.labels.dtype == np.uint8
        if graph.labels.shape[1] != graph.num_classes:
            raise UserError(
                f"{graph.name}: num_classes is {graph.num_classes}, but multi-hot labels have "
                f"{graph.labels.shape[1]} columns"
            )
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
    assert graph.split.shape == (graph.num_nodes,)
    assert graph.split.dtype == np.uint8
    counts = np.bincount(graph.split, minlength=4)
    for code, part in SPLIT_NAMES.items():
        if counts[code] == 0 and code != VAL:
            raise UserError(
                f"{graph.name}: the {part} split is empty (0 of {graph.num_nodes} nodes); training and "
                "scoring need at least one labelled node each"
            )


__all__ = ["NONE", "SPLIT_NAMES", "TEST", "TRAIN", "VAL", "Features", "Graph", "Task"]
