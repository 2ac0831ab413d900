"""Graphs of DGL and PyG as plain arrays and back; neither library is imported before it is needed.

Node features are looked for under `feat`, `features`, `x`; labels under `label`, `labels`, `y`; the split
under `train_mask`, `val_mask`, `test_mask` (the first column where there are several splits). Edge weights
are PyG's `edge_weight`, `edge_attr` of one column or values of `adj_t`, and DGL's `w`, `weight` or
`edge_weight`.

Shapes:
    N nodes   E arcs   F features   C classes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.arrays import as_numpy
from partition.errors import UserError
from partition.labels import SPLIT_NAMES
from partition.optional import optional

FEATURE_KEYS = ("feat", "features", "x")
LABEL_KEYS = ("label", "labels", "y")
WEIGHT_KEYS = ("w", "weight", "edge_weight")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GraphArrays:
    """What a graph of another library holds, unchecked."""

    edge_index: npt.NDArray[Any]
    """[2, E]: source row, target row."""
    edge_weight: npt.NDArray[Any] | None
    """[E], in the order of the edges."""
    features: npt.NDArray[Any] | None
    """[N, F]"""
    labels: npt.NDArray[Any]
    """[N] class ids or multi-hot [N, C]."""
    masks: tuple[npt.NDArray[np.bool_], ...] | None
    """Of the training, validation and test nodes, bool [N] each."""


def looked_up(
    name: str, lookup: Callable[[str], Any], edge_index: npt.NDArray[Any], edge_weight: Any = None
) -> GraphArrays:
    """The arrays that `lookup` knows by one of their usual names; it answers None for others.

    Raises:
        UserError: there are no labels.
    """

    def first(keys: tuple[str, ...]) -> npt.NDArray[Any] | None:
        found = ((key, lookup(key)) for key in keys)
        return next((as_numpy(f"{name}: {key}", value) for key, value in found if value is not None), None)

    labels = first(LABEL_KEYS)
    if labels is None:
        raise UserError(f"{name}: no labels; they are looked for under {', '.join(LABEL_KEYS)}")
    masks = [first((f"{part}_mask",)) for part in SPLIT_NAMES.values()]
    train, val, test = (None if mask is None else _first_column(mask).astype(bool) for mask in masks)
    whole = None
    if train is not None and test is not None:
        whole = (train, np.zeros_like(train) if val is None else val, test)
    return GraphArrays(
        edge_index=edge_index,
        edge_weight=None if edge_weight is None else as_numpy(f"{name}: edge weights", edge_weight),
        features=first(FEATURE_KEYS),
        labels=labels,
        masks=whole,
    )


def _first_column(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return mask if mask.ndim < 2 else mask[:, 0]


def from_dgl(graph: Any, name: str) -> GraphArrays:
    """The arrays of a homogeneous `dgl.DGLGraph` with the usual node data."""
    if len(graph.ntypes) != 1 or len(graph.etypes) != 1:
        raise UserError(
            f"{name}: {len(graph.ntypes)} node types and {len(graph.etypes)} edge types; only homogeneous "
            "graphs can be read, see dgl.to_homogeneous"
        )
    ends = [as_numpy(f"{name}: edges", end) for end in graph.edges(order="eid")]
    weights = (graph.edata[key] for key in WEIGHT_KEYS if key in graph.edata)
    return looked_up(name, dict(graph.ndata).get, np.stack(ends), next(weights, None))


def from_pyg(data: Any, name: str) -> GraphArrays:
    """The arrays of a homogeneous `torch_geometric.data.Data`."""
    if data.get("edge_index") is not None:
        edge_index, weights = as_numpy(f"{name}: edge_index", data.edge_index), data.get("edge_weight")
        if weights is None and _is_column(attributes := data.get("edge_attr")):
            weights = attributes
    elif data.get("adj_t") is not None:
        *ends, weights = _entries(data.adj_t)
        edge_index = np.stack([as_numpy(f"{name}: adj_t", end) for end in ends])
    else:
        raise UserError(
            f"{name}: neither edge_index nor adj_t; only homogeneous node-classification data can be read"
        )
    return looked_up(name, data.get, edge_index, weights)


def _entries(adj_t: Any) -> tuple[Any, Any, Any]:
    """Sources, targets, values of a transposed adjacency: a torch_sparse.SparseTensor or a sparse tensor."""
    if hasattr(adj_t, "coo"):
        target, source, values = adj_t.coo()
    else:
        whole = adj_t.to_sparse_coo().coalesce()
        (target, source), values = whole.indices(), whole.values()
    return source, target, values if _is_column(values) else None


def _is_column(values: Any) -> bool:
    """Whether there is one number for each edge."""
    return values is not None and (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1))


def to_dgl(arrays: GraphArrays) -> Any:
    """A `dgl.DGLGraph` with `feat`, `label`, the three masks and, of weighted edges, `w`."""
    dgl, torch = optional("dgl"), optional("torch")
    ends = tuple(torch.from_numpy(end) for end in arrays.edge_index)
    made = dgl.graph(ends, num_nodes=arrays.labels.shape[0])
    made.ndata.update(_tensors(arrays, "feat", "label"))
    if arrays.edge_weight is not None:
        made.edata["w"] = torch.from_numpy(arrays.edge_weight)
    return made


def to_pyg(arrays: GraphArrays) -> Any:
    """A `torch_geometric.data.Data` with `x`, `y`, `edge_index`, the masks and any `edge_weight`."""
    made, torch = optional("torch_geometric.data").Data(), optional("torch")
    made.edge_index = torch.from_numpy(arrays.edge_index)
    made.num_nodes = arrays.labels.shape[0]
    if arrays.edge_weight is not None:
        made.edge_weight = torch.from_numpy(arrays.edge_weight)
    for key, tensor in _tensors(arrays, "x", "y").items():
        made[key] = tensor
    return made


def _tensors(arrays: GraphArrays, features: str, labels: str) -> dict[str, Any]:
    """Node data by the names that the library's users expect."""
    assert arrays.masks is not None
    torch = optional("torch")
    names = (features, labels, *(f"{part}_mask" for part in SPLIT_NAMES.values()))
    found = (arrays.features, arrays.labels, *arrays.masks)
    return {name: torch.from_numpy(array) for name, array in zip(names, found, strict=True)}
