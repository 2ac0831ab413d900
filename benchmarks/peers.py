"""Full-graph training of a workload's model in one process with DGL or PyG: what ours is measured against.

    python -m benchmarks.peers dgl reddit-like --epochs 10          one line of JSON per epoch
    python -m benchmarks.peers pyg products-like --turns            an epoch whenever stdin says `step`

The model is the benchmark's: GraphSAGE with mean (one self loop a node), LayerNorm, ReLU, dropout before
each layer, Adam; the first aggregation is computed once at the start, so layer 0 is a linear layer on [x,
mean of neighbours]. Each library runs its own layer in the fastest form found here: DGL on int32 CSR and
CSC, PyG on a CSR adjacency of torch. `--order FILE.npy` renumbers the nodes first (new node k is old node
FILE[k]).
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("DGLBACKEND", "pytorch")

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contest import Turns, forget_peak, peak_rss_bytes
from benchmarks.workloads import Recipe, recipe, workload_path


def read_graph(path: Path, order: Path | None) -> tuple[sp.csr_matrix, Tensor, Tensor, Tensor]:
    """Adjacency with self loops (row i lists the sources of arcs into i), features, labels, training ids."""
    arrays = np.load(path)
    source, target = arrays["edge_index"]
    feat, label, train = arrays["feat"], arrays["label"], arrays["train_idx"]
    n = len(label)
    if order is not None:
        old_of_new = np.load(order)
        new_of_old = np.empty(n, np.int32)
        new_of_old[old_of_new] = np.arange(n, dtype=np.int32)
        source, target = new_of_old[source], new_of_old[target]
        feat, label, train = feat[old_of_new], label[old_of_new], np.sort(new_of_old[train])
    ones = np.ones(len(source) + n, np.float32)
    loops = np.arange(n, dtype=np.int32)
    rows, columns = np.concatenate([target, loops]), np.concatenate([source, loops])
    adjacency = sp.csr_matrix((ones, (rows, columns)), shape=(n, n))
    return (
        adjacency,
        torch.from_numpy(feat),
        torch.from_numpy(label),
        torch.from_numpy(train.astype(np.int64)),
    )


def dgl_graph(adjacency: sp.csr_matrix) -> Any:
    """The graph as DGL keeps it, both formats made ahead of the first epoch."""
    import dgl

    indptr, indices = (torch.from_numpy(a.astype(np.int32)) for a in (adjacency.indptr, adjacency.indices))
    graph = dgl.graph(("csc", (indptr, indices, [])), num_nodes=adjacency.shape[0])
    graph.create_formats_()
    return graph


def pyg_graph(adjacency: sp.csr_matrix, form: str) -> Any:
    """The graph as a CSR tensor of torch, or as PyG's own EdgeIndex with its caches filled."""
    n = adjacency.shape[0]
    if form == "csr":
        indptr, indices = (
            torch.from_numpy(a.astype(np.int64)) for a in (adjacency.indptr, adjacency.indices)
        )
        return torch.sparse_csr_tensor(indptr, indices, torch.from_numpy(adjacency.data), size=(n, n))
    from torch_geometric import EdgeIndex

    target = torch.from_numpy(np.repeat(np.arange(n, dtype=np.int64), np.diff(adjacency.indptr)))
    pairs = torch.stack([torch.from_numpy(adjacency.indices.astype(np.int64)), target])
    edges = EdgeIndex(pairs, sparse_size=(n, n), sort_order="col", is_undirected=True)
    return edges.fill_cache_()


def make_conv(library: str, inputs: int, outputs: int) -> nn.Module:
    """One SAGE mean layer of the library."""
    if library == "dgl":
        from dgl.nn import SAGEConv as DglSage

        return DglSage(inputs, outputs, "mean")
    from torch_geometric.nn import SAGEConv as PygSage

    return PygSage(inputs, outputs, aggr="mean")


class Net(nn.Module):
    """Linear layer on [x, mean], then the library's convolutions; norm, ReLU and dropout between."""

    def __init__(self, library: str, graph: Any, features: int, classes: int, shape: Recipe) -> None:
        super().__init__()
        self.graph_first = library == "dgl"
        self.graph = graph
        widths = [features] + [shape.hidden] * (shape.layers - 1) + [classes]
        self.first = nn.Linear(2 * features, widths[1])
        self.convs = nn.ModuleList(make_conv(library, a, b) for a, b in itertools.pairwise(widths[1:]))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:-1])
        self.dropout = shape.dropout

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.dropout(x, self.dropout, self.training))
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = F.dropout(F.relu(norm(h)), self.dropout, self.training)
            h = conv(self.graph, h) if self.graph_first else conv(h, self.graph)
        return h


def with_mean(adjacency: sp.csr_matrix, x: Tensor) -> Tensor:
    """[x, mean of x over the row's sources]; the aggregation of layer 0, which never changes."""
    mean = torch.from_numpy(adjacency @ x.numpy())
    mean /= torch.from_numpy(np.diff(adjacency.indptr).astype(np.float32)).unsqueeze(1)
    return torch.cat([x, mean], dim=1)


class Training:
    """Everything one epoch needs."""

    def __init__(self, options: argparse.Namespace) -> None:
        shape = recipe(options.workload)
        path = workload_path(options.workload, options.shared)
        adjacency, x, self.labels, self.train = read_graph(path, options.order)
        self.labels = self.labels[self.train]
        self.x = with_mean(adjacency, x)
        library = options.library
        graph = dgl_graph(adjacency) if library == "dgl" else pyg_graph(adjacency, options.adjacency)
        torch.manual_seed(0)
        classes = int(np.load(path)["label"].max()) + 1
        self.model = Net(library, graph, x.shape[1], classes, shape)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=shape.lr)

    def epoch(self) -> dict[str, float]:
        """One full-batch step; its seconds and loss."""
        start = time.perf_counter()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.model(self.x)[self.train], self.labels)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        return {"epoch_s": time.perf_counter() - start, "loss": value}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", choices=["dgl", "pyg"])
    parser.add_argument("workload")
    parser.add_argument("--adjacency", choices=["csr", "edge-index"], default="csr", help="PyG only")
    parser.add_argument("--order", type=Path, default=None, help="FILE.npy with a node order")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", action="store_true", help="run an epoch for each line `step` on stdin")
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    turns = Turns()
    torch.set_num_threads(options.threads)
    try:
        training = Training(options)
    except ImportError as missing:
        turns.say(skip=f"{options.library} is not installed here: {missing}")
        sys.exit(0)
    loading_peak = peak_rss_bytes()
    forget_peak()
    turns.say(event="ready", loading_peak_rss_bytes=loading_peak)
    number = 0
    while turns.wait() if options.turns else number < options.epochs:
        turns.say(epoch=number, **training.epoch(), peak_rss_bytes=peak_rss_bytes())
        number += 1


if __name__ == "__main__":
    main()
