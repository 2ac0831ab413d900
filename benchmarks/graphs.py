"""The real graphs: how each is read, with which recipe it is trained, and what others reached on it.

Wide bags of words become their leading singular directions, each of unit mean square: 128 for the scores,
64 for the accuracy and variance studies, so that hundreds of runs fit into an hour and train in tens of
epochs. Graphs without features get those of their normalised adjacency D^-1/2 A D^-1/2. Structure, labels
and splits are untouched.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from benchmarks.workloads import cache_folder, real_graphs
from bnsgcn.config import TrainConfig
from partition.graph import TEST, TRAIN, VAL, Graph
from partition.sources import load

REDUCED_COLUMNS = 64
SPLITS = {"train_idx": TRAIN, "val_idx": VAL, "test_idx": TEST}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """One graph: its file, source options, training options and published full-graph score.

    columns: singular directions that stand for the features, 0 = the features as they are. featureless: the
    file has none. file: where its name differs from the setup's.
    """

    config: TrainConfig
    file: str = ""
    options: str = ""
    columns: int = 0
    featureless: bool = False
    published: str = "none known"


def _planetoid(published: str) -> Setup:
    """Kipf and Welling's recipe (hidden 64 instead of 16): weight decay, dropout, no norm."""
    config = TrainConfig(
        model="gcn",
        layers=2,
        hidden=64,
        dropout=0.5,
        norm="none",
        lr=0.01,
        weight_decay=5e-4,
        epochs=200,
        eval_every=5,
        precompute=True,
    )
    return Setup(config=config, published=published)


def _sage(**changes: Any) -> TrainConfig:
    """GraphSAGE with layer norm, as the papers train their large graphs."""
    base = TrainConfig(
        model="sage", layers=3, hidden=64, dropout=0.2, lr=0.03, epochs=60, eval_every=5, precompute=True
    )
    return dataclasses.replace(base, **changes)


SETUPS: dict[str, Setup] = {
    "cora": _planetoid("81.5, GCN (Kipf and Welling, ICLR 2017, table 2)"),
    "citeseer": _planetoid("70.3, GCN (Kipf and Welling, ICLR 2017, table 2)"),
    "amazon-computers": Setup(
        config=_sage(hidden=128, dropout=0.3, epochs=120),
        columns=128,
        published="93.25 SAGE, 93.99 GCN, tuned, other random 60/20/20 splits (Luo et al., NeurIPS 2024)",
    ),
    "facebook-pages": Setup(config=_sage(dropout=0.3, epochs=100), columns=128),
    "debian12-deps": Setup(config=_sage(), columns=128, published="none: made for this project"),
    "debian12-tags": Setup(
        config=_sage(),
        columns=128,
        file="debian12-deps",
        options=",label=label_multi",
        published="none: made for this project",
    ),
    "blogcatalog": Setup(config=_sage(epochs=120), columns=128, featureless=True),
    "coauthor-cs": Setup(config=_sage(), columns=128),
    "minesweeper": Setup(
        config=_sage(layers=8, lr=0.003, epochs=200, eval_every=10, metric="roc-auc"),
        published="97.77 SAGE, tuned (Luo et al., NeurIPS 2024), deeper, with residuals",
    ),
    "eukloc": Setup(config=_sage(dropout=0.0, epochs=200)),
    "deezer-hu": Setup(config=_sage(), columns=128, featureless=True),
}


def source_of(name: str, shared: Path | None = None) -> str:
    """The SOURCE string for the scores."""
    setup = SETUPS[name]
    source = f"npz:{real_graphs(shared)[setup.file or name]}{setup.options}"
    source += ",features=degree" if setup.featureless else ""
    return _derived(name, source, setup.columns) if setup.columns else source


def reduced_source(name: str, shared: Path | None = None) -> str:
    """The SOURCE string for the studies: at most `REDUCED_COLUMNS` features."""
    setup = SETUPS[name]
    source = f"npz:{real_graphs(shared)[setup.file or name]}{setup.options}"
    source += ",features=degree" if setup.featureless else ""
    return _derived(name, source, REDUCED_COLUMNS)


def _derived(name: str, source: str, columns: int) -> str:
    """The same graph with `columns` features, made once and kept in the cache."""
    path = cache_folder() / f"{name}-{columns}.npz"
    if not path.exists():
        graph = load(source)
        if graph.num_features <= columns and not SETUPS[name].featureless:
            return source
        target = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as stream:
            np.savez(
                stream,
                edge_index=np.stack([graph.indices.astype(np.int64), target]),
                feat=_features(graph, columns, featureless=SETUPS[name].featureless),
                label=graph.labels,
                **{key: np.flatnonzero(graph.split == value) for key, value in SPLITS.items()},
            )
        partial.rename(path)
    return f"npz:{path}"


def _features(graph: Graph, columns: int, *, featureless: bool) -> np.ndarray[Any, Any]:
    """Leading singular directions, each scaled to unit mean square: float32 [N, columns]."""
    matrix = sp.csr_matrix(graph.features, dtype=np.float64)
    if featureless:
        root = sp.diags(np.maximum(np.diff(graph.indptr), 1) ** -0.5)
        ones = np.ones(graph.num_arcs)
        shape = (graph.num_nodes, graph.num_nodes)
        matrix = root @ sp.csr_matrix((ones, graph.indices, graph.indptr), shape=shape) @ root
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    left, _, _ = svds(matrix, k=columns, v0=start)
    return np.ascontiguousarray(left * np.sqrt(left.shape[0]), dtype=np.float32)
