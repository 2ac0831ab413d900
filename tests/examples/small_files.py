"""A small graph in the form in which OGB, DGL and PyG keep data sets, so that nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from tests.partition.test_library_sources import dgl_folder, write_csv

NODES = 300
CLASSES = 3


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """edge_index [2, E], features float32 [N, 8] and labels int64 [N] of three communities."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, NODES)
    ends = rng.integers(0, NODES, (2, 8 * NODES))
    same = (labels[ends[0]] == labels[ends[1]]) | (rng.random(ends.shape[1]) < 0.1)
    features = np.eye(CLASSES)[labels] @ rng.standard_normal((CLASSES, 8))
    return ends[:, same], (features + rng.standard_normal((NODES, 8))).astype(np.float32), labels


def codes() -> np.ndarray:
    """1, 2 or 3 of each node: training, validation, test."""
    return np.arange(NODES) % 3 + 1


def write_arxiv(root: Path) -> None:
    folder = root / "ogbn_arxiv"
    ends, features, labels = arrays()
    write_csv(folder / "raw" / "edge.csv.gz", ends.T)
    write_csv(folder / "raw" / "node-feat.csv.gz", features)
    write_csv(folder / "raw" / "node-label.csv.gz", labels[:, None])
    write_csv(folder / "raw" / "num-node-list.csv.gz", np.array([[NODES]]))
    for code, name in enumerate(("train", "valid", "test"), start=1):
        nodes = np.flatnonzero(codes() == code)[:, None]
        write_csv(folder / "split" / "time" / f"{name}.csv.gz", nodes)


def write_reddit(root: Path) -> None:
    folder = dgl_folder(root, "reddit")
    folder.mkdir()
    ends, features, labels = arrays()
    ends = np.unique(np.concatenate([ends, ends[::-1]], axis=1), axis=1)
    sp.save_npz(
        folder / "reddit_graph.npz", sp.coo_matrix((np.ones(ends.shape[1]), ends), shape=(NODES, NODES))
    )
    np.savez(folder / "reddit_data.npz", feature=features, label=labels, node_types=codes())


def write_amazon(root: Path) -> None:
    folder = root / "Computers" / "raw"
    folder.mkdir(parents=True)
    ends, features, labels = arrays()
    tables = {
        "attr": sp.csr_matrix(features),
        "adj": sp.csr_matrix((np.ones(ends.shape[1], np.float32), (ends[0], ends[1])), shape=(NODES, NODES)),
    }
    pieces = {
        f"{name}_{piece}": getattr(table, piece)
        for name, table in tables.items()
        for piece in ("data", "indices", "indptr", "shape")
    }
    np.savez(folder / "amazon_electronics_computers.npz", labels=labels, **pieces)
