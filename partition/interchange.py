"""Graphs of DGL and PyG into ours and back; neither library is imported before it is needed.

Node features are looked for under `feat`, `features`, `x`; labels under `label`, `labels`, `y`; the split
under `train_mask`, `val_mask`, `test_mask` (the first column where there are several splits).

Shapes:
    N nodes   E arcs   F features
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.adjacency import row_numbers
from partition.errors import UserError
from partition.graph import Graph
from partition.labels import SPLIT_NAMES, split_from_indices
from partition.optional import optional
from partition.sources.features import WAYS_OUT, made_features

FEATURE_KEYS = ("feat", "features", "x")
LABEL_KEYS = ("label", "labels", "y")
Lookup = Callable[[str], Any]


def from_dgl(
    graph: Any,
    *,
    name: str = "dgl",
    features: str = "",
    directed: bool = False,
    num_classes: int = 0,
    **more: Any,
) -> Graph:
    """Graph of a homogeneous `dgl.DGLGraph` with the usual node data."""
    if len(graph.ntypes) != 1 or len(graph.etypes) != 1:
        raise UserError(
            f"{name}: {len(graph.ntypes)} node types and {len(graph.etypes)} edge types; only homogeneous "
            "graphs can be read, see dgl.to_homogeneous"
        )
    source, target = graph.edges(order="eid")
    found = {key: as_numpy(value) for key, value in graph.ndata.items()}
    return _assemble(
        name, found.get, np.stack([as_numpy(source), as_numpy(target)]), features, directed, num_classes, more
    )


def from_pyg(
    data: Any,
    *,
    name: str = "pyg",
    features: str = "",
    directed: bool = False,
    num_classes: int = 0,
    **more: Any,
) -> Graph:
    """Graph of a homogeneous `torch_geometric.data.Data`."""
    if data.get("edge_index") is None and data.get("adj_t") is None:
        raise UserError(
            f"{name}: neither edge_index nor adj_t; only homogeneous node-classification data can be read"
        )
    if data.get("edge_index") is not None:
        edge_index = as_numpy(data.edge_index)
    else:
        target, source, _ = (
            data.adj_t.t().coo() if hasattr(data.adj_t, "coo") else (*data.adj_t.to_sparse_coo().indices(), 0)
        )
        edge_index = np.stack([as_numpy(source), as_numpy(target)])

    def lookup(key: str) -> npt.NDArray[Any] | None:
        value = data.get(key)
        return None if value is None else as_numpy(value)

    return _assemble(name, lookup, edge_index, features, directed, num_classes, more)


def to_dgl(graph: Graph) -> Any:
    """A `dgl.DGLGraph` with `feat`, `label` and the three masks."""
    dgl, torch = optional("dgl"), optional("torch")
    source, target = _arcs(graph)
    made = dgl.graph((torch.from_numpy(source), torch.from_numpy(target)), num_nodes=graph.num_nodes)
    made.ndata["feat"] = torch.from_numpy(_dense(graph))
    made.ndata["label"] = torch.from_numpy(np.array(graph.labels))
    for code, part in SPLIT_NAMES.items():
        made.ndata[f"{part}_mask"] = torch.from_numpy(graph.split == code)
    return made


def to_pyg(graph: Graph) -> Any:
    """A `torch_geometric.data.Data` with `x`, `y`, `edge_index` and the three masks."""
    made, torch = optional("torch_geometric.data").Data(), optional("torch")
    made.edge_index = torch.from_numpy(np.stack(_arcs(graph)))
    made.x = torch.from_numpy(_dense(graph))
    made.y = torch.from_numpy(np.array(graph.labels))
    made.num_nodes = graph.num_nodes
    for code, part in SPLIT_NAMES.items():
        made[f"{part}_mask"] = torch.from_numpy(graph.split == code)
    return made


def as_numpy(value: Any) -> npt.NDArray[Any]:
    """A tensor or array as an array on the CPU."""
    array: npt.NDArray[Any] = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    return array


def _assemble(
    name: str,
    lookup: Lookup,
    edge_index: npt.NDArray[Any],
    features: str,
    directed: bool,
    num_classes: int,
    more: dict[str, Any],
) -> Graph:
    labels = _first(name, lookup, LABEL_KEYS, "labels")
    if features:
        degree = np.bincount(edge_index.reshape(-1), minlength=labels.shape[0])
        table = made_features(name, features, degree.astype(np.int64))
    else:
        table = _first(name, lookup, FEATURE_KEYS, f"node features; use {WAYS_OUT}; otherwise they are")
    return Graph.from_arrays(
        edge_index,
        features=table,
        labels=labels,
        split=_split(name, lookup, labels.shape[0]),
        num_classes=num_classes or None,
        directed=directed,
        name=name,
        **more,
    )


def _first(name: str, lookup: Lookup, keys: tuple[str, ...], what: str) -> npt.NDArray[Any]:
    for key in keys:
        if (found := lookup(key)) is not None:
            array: npt.NDArray[Any] = found
            return array
    raise UserError(f"{name}: no {what} looked for under {', '.join(keys)}")


def _split(name: str, lookup: Lookup, num_nodes: int) -> npt.NDArray[np.uint8] | None:
    masks = [lookup(f"{part}_mask") for part in SPLIT_NAMES.values()]
    if any(mask is None for mask in masks):
        return None
    first = [(mask if mask.ndim == 1 else mask[:, 0]).astype(bool) for mask in masks]
    return split_from_indices(name, num_nodes, *first)


def _arcs(graph: Graph) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return graph.indices.astype(np.int64), row_numbers(graph.indptr).astype(np.int64)


def _dense(graph: Graph) -> npt.NDArray[np.float32]:
    dense = graph.features if isinstance(graph.features, np.ndarray) else graph.features.toarray()
    return np.array(dense, dtype=np.float32)
