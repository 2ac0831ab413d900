"""Tiny graphs with everything that makes distributed training stumble, and their parts on disk, made once.

Every graph has isolated nodes and nodes in no split. KIND is one of

    single     one label a node, undirected          multi      multi-hot labels, undirected
    directed   one label a node, directed            apart      parts that share no boundary with some others
    idle       few arcs, and the last part has no training and no validation nodes
    sparse     as single, with sparse features               filled     the same features, dense
    weighted   one label a node, undirected, edge weights of which some are 0
    oneway     the same, directed

`apart` and `idle` depend on the partition, so they are made for one number of parts and the random method.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from partition.assign.random import balanced_random
from partition.build import partition_graph
from partition.graph import NONE, TEST, TRAIN, VAL, Graph

NODES, FEATURES, CLASSES = 48, 7, 4
SPARSE_FEATURES = 150
ISOLATED = 4

PartsFolder = Callable[..., Path]
"""parts_folder(kind, parts, method="random") -> the folder."""


def small_graph(kind: str, parts: int = 1) -> Graph:
    """The graph of a kind; `parts` matters to `apart` and `idle` only."""
    rng = np.random.default_rng(5)
    part_of = balanced_random(NODES, parts, 0)
    split = rng.choice([TRAIN, VAL, TEST, NONE], NODES, p=[0.4, 0.2, 0.3, 0.1]).astype(np.uint8)
    arcs = rng.integers(0, NODES - ISOLATED, (2, 5 * NODES))
    if kind == "apart":
        group = part_of if parts == 2 else part_of // 2
        arcs = arcs[:, group[arcs[0]] == group[arcs[1]]]
    if kind == "idle":
        arcs = arcs[:, :NODES]
        split[part_of == parts - 1] = TEST if parts > 1 else split[part_of == parts - 1]
    multi = kind == "multi"
    return Graph.from_arrays(
        arcs,
        features=features_of(kind, rng),
        labels=rng.integers(0, 2, (NODES, CLASSES)) if multi else rng.integers(0, CLASSES, NODES),
        split=split,
        num_classes=CLASSES,
        edge_weight=_weights(arcs.shape[1]) if kind in ("weighted", "oneway", "sparse weighted") else None,
        directed=kind in ("directed", "oneway"),
        name=kind,
        source=kind,
    )


def features_of(kind: str, rng: np.random.Generator) -> Any:
    """Dense [N, 7]; of `sparse` and `filled` 150 columns, of which the first rows have none set."""
    if kind not in ("sparse", "filled", "sparse weighted"):
        return rng.standard_normal((NODES, FEATURES)).astype(np.float32)
    features = rng.standard_normal((NODES, SPARSE_FEATURES)).astype(np.float32)
    features[rng.random(features.shape) > 0.03] = 0
    features[:3] = 0
    return features if kind == "filled" else sp.csr_matrix(features)


def _weights(arcs: int) -> np.ndarray:
    """From far below 1 to far above it; 0 for some, and for all arcs of some nodes by chance."""
    rng = np.random.default_rng(6)
    return np.where(rng.random(arcs) < 0.2, 0.0, rng.lognormal(0, 1.5, arcs))


def folder_maker(root: Path) -> PartsFolder:
    """A function that partitions a small graph into `root`, once for every combination."""

    def parts_folder(kind: str, parts: int, method: str = "random") -> Path:
        folder = root / f"{kind}-{parts}-{method}"
        if not folder.exists():
            partition_graph(small_graph(kind, parts), parts=parts, out=folder, method=method)
        return folder

    return parts_folder
