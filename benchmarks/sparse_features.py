"""Features of which almost none are set, stored dense and stored sparse: epoch time and memory, PyG beside.

    python -m benchmarks.sparse_features                              34,493 nodes, 8,415 features, 0.4 % set
    python -m benchmarks.sparse_features --nodes 4000 --rounds 2      a smaller graph of the same kind

A random graph with communities whose nodes set words of their own; GraphSAGE 3 x 128 with dropout 0.5, two
workers of one thread each; PyG has its features dense, as its dropout wants them, and two threads.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.contest import Contestant, Turns, forget_peak, interleave, peak_rss_bytes, python
from benchmarks.measure import Spread, machine, ratios, round_medians, table, write_record
from benchmarks.ours import ours_contestant
from benchmarks.workloads import Skip, cache_folder
from bnsgcn.config import TrainConfig
from partition.build import partition_graph
from partition.graph import TRAIN, Graph
from partition.sources import load

CLASSES, HIDDEN, LAYERS, DROPOUT = 5, 128, 3, 0.5
FASTER, SMALLER = 8, 4
"""How much faster and smaller sparse features have to be than dense ones."""


def write_graph(path: Path, options: argparse.Namespace) -> None:
    """The graph as an npz with CSR features."""
    rng = np.random.default_rng(0)
    nodes, width = options.nodes, options.features
    community = rng.integers(0, 50, nodes)
    order = np.argsort(community, kind="stable")
    near = np.clip(rng.normal(0, nodes / 200, 6 * nodes).astype(np.int64), -nodes, nodes)
    source = np.repeat(np.arange(nodes), 6)
    target = order[(np.argsort(order)[source] + near) % nodes]
    words = np.maximum(1, rng.poisson(options.share * width, nodes))
    rows = np.repeat(np.arange(nodes), words)
    columns = (
        community[rows] * width // 60 + np.abs(rng.normal(0, width / 8, rows.size)).astype(np.int64)
    ) % width
    features = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, columns)), shape=(nodes, width))
    features.sum_duplicates()
    np.savez(
        path,
        edge_index=np.stack([source, target]),
        feat_data=features.data,
        feat_indices=features.indices,
        feat_indptr=features.indptr,
        feat_shape=np.array(features.shape),
        label=community % CLASSES,
        **{
            f"{name}_idx": np.flatnonzero(np.arange(nodes) % 5 == place)
            for place, name in enumerate(("val", "test"))
        },
        train_idx=np.flatnonzero(np.arange(nodes) % 5 > 1),
    )


def folders(options: argparse.Namespace) -> tuple[Path, dict[str, Path]]:
    """The npz, and its parts with features stored both ways; made once."""
    place = cache_folder() / f"sparse-{options.nodes}-{options.features}-{options.share}"
    path = place / "graph.npz"
    if not path.exists():
        place.mkdir(parents=True, exist_ok=True)
        write_graph(path, options)
    graph = load(f"npz:{path}")
    found = {name: place / f"parts-{name}" for name in ("sparse", "dense")}
    for name, folder in found.items():
        if not folder.exists():
            partition_graph(graph if name == "sparse" else filled(graph), parts=2, out=folder)
    return path, found


def filled(graph: Graph) -> Graph:
    """The same graph with dense features."""
    return Graph.from_arrays(
        np.stack([graph.indices, np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))]),
        features=graph.features.toarray(),
        labels=graph.labels,
        split=graph.split,
        name=graph.name,
        source=graph.source,
    )


def race(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of every contestant."""
    path, parts = folders(options)
    shape: dict[str, Any] = {"layers": LAYERS, "hidden": HIDDEN, "dropout": DROPOUT, "threads": 1}
    contestants: list[Contestant] = []
    try:
        for (name, folder), precompute in itertools.product(parts.items(), (False, True)):
            config = TrainConfig(model="sage", precompute=precompute, device="cpu", epochs=1_000_000, **shape)
            title = f"{name}, layer 0 precomputed" if precompute else name
            print(f"starting {title}", file=sys.stderr, flush=True)
            contestants.append(ours_contestant(title, folder, config, parts=2, threads=1))
            contestants[-1].wait_ready()
        if not options.without_pyg:
            contestants.append(
                Contestant("PyG", [python("benchmarks.sparse_features", "--pyg", str(path))], [{}])
            )
            contestants[-1].wait_ready()
        return interleave(contestants, rounds=options.rounds, epochs=options.epochs, warm_up=2)
    finally:
        for contestant in contestants:
            contestant.close()


def run_pyg(path: Path) -> None:
    """The same model of PyG's layers, an epoch whenever told to."""
    turns = Turns()
    try:
        from torch_geometric.nn import SAGEConv
    except ImportError as missing:
        turns.say(skip=f"PyG is not installed here: {missing}")
        return
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(2)
    graph = load(f"npz:{path}")
    adjacency = torch.sparse_csr_tensor(
        torch.from_numpy(graph.indptr.astype(np.int64)),
        torch.from_numpy(graph.indices.astype(np.int64)),
        torch.ones(graph.indices.size),
        size=(graph.num_nodes, graph.num_nodes),
    )
    x, train = (
        torch.from_numpy(graph.features.toarray()),
        torch.from_numpy(np.flatnonzero(graph.split == TRAIN)),
    )
    truth = torch.from_numpy(graph.labels)[train]
    widths = [graph.num_features, *[HIDDEN] * (LAYERS - 1), CLASSES]
    convs = torch.nn.ModuleList(SAGEConv(a, b, aggr="mean") for a, b in itertools.pairwise(widths))
    optimizer = torch.optim.Adam(convs.parameters(), lr=0.01)
    loading_peak = peak_rss_bytes()
    forget_peak()
    turns.say(event="ready", loading_peak_rss_bytes=loading_peak)
    while turns.wait():
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        h = x
        for layer, conv in enumerate(convs):
            h = conv(F.dropout(h if layer == 0 else F.relu(h), DROPOUT), adjacency)
        loss = F.cross_entropy(h[train], truth)
        loss.backward()
        optimizer.step()
        turns.say(loss=loss.item(), epoch_s=time.perf_counter() - start, peak_rss_bytes=peak_rss_bytes())


def rows_of(rounds: dict[str, Any]) -> list[list[str]]:
    """A line for each contestant: seconds, peak memory, and both as factors of what is stored sparse."""
    rows = []
    for name, measured in rounds.items():
        peak = max(epoch["peak_rss_bytes"] for epochs in measured for epoch in epochs)
        against = ratios(measured, rounds["sparse"]).show(1)
        rows.append([name, Spread.of(round_medians(measured)).show(3), f"{peak / 1e6:,.0f}", against])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=34_493)
    parser.add_argument("--features", type=int, default=8_415)
    parser.add_argument("--share", type=float, default=0.004, help="of the features that are set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--without-pyg", action="store_true")
    parser.add_argument("--pyg", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pyg is not None:
        run_pyg(options.pyg)
        return
    before, rounds = machine(), race(options)
    head = ["features", "epoch s", "peak memory of the larger worker, MB", "epoch / sparse"]
    write_record(
        "sparse_features",
        claim=f"With sparse features an epoch is at least {FASTER} times faster, and a worker "
        f"{SMALLER} times smaller, than with the same ones stored dense.",
        body=table(head, rows_of(rounds)),
        raw=rounds,
        does_not_show="real text features, whose columns are set much more unevenly; other models than SAGE.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
