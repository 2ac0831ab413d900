"""Features of which almost none are set, stored dense and stored sparse: epoch time and memory, PyG beside.

    python -m benchmarks.sparse_features                              34,493 nodes, 8,415 features, 0.4 % set
    python -m benchmarks.sparse_features --nodes 4000 --rounds 2      a smaller graph of the same kind

A random graph with communities whose nodes set words of their own; GraphSAGE 3 x 128 with dropout 0.5, two
workers of one thread each. PyG has two threads; its SAGEConv takes dense features alone, so that beside it
stands a first layer of torch's own sparse products (mean of x W_l^T, plus x W_r^T), the others PyG's.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.contest import Contestant, Turns, forget_peak, interleave, peak_rss_bytes, python
from benchmarks.measure import Spread, machine, round_medians, table, write_record
from benchmarks.ours import ours_contestant
from benchmarks.workloads import Skip, cache_folder
from bnsgcn.config import TrainConfig
from bnsgcn.plan.memory import PROCESS_BYTES
from partition.build import partition_graph
from partition.graph import TRAIN
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
    found = {name: place / f"parts-{name}" for name in ("sparse", "dense")}
    for name, folder in found.items():
        if not folder.exists():
            partition_graph(f"npz:{path},features={name}", parts=2, out=folder)
    return path, found


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
        for stored in () if options.without_pyg else ("dense", "sparse"):
            command = python("benchmarks.sparse_features", "--pyg", str(path), "--stored", stored)
            contestants.append(Contestant(f"PyG, {stored}", [command], [{}]))
            contestants[-1].wait_ready()
        return interleave(contestants, rounds=options.rounds, epochs=options.epochs, warm_up=2)
    finally:
        for contestant in contestants:
            contestant.close()


def run_pyg(path: Path, stored: str) -> None:
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
    graph = load(f"npz:{path},features={stored}")
    adjacency = torch.sparse_csr_tensor(
        torch.from_numpy(graph.indptr.astype(np.int64)),
        torch.from_numpy(graph.indices.astype(np.int64)),
        torch.ones(graph.indices.size),
        size=(graph.num_nodes, graph.num_nodes),
    )
    inverse = 1 / torch.from_numpy(np.diff(graph.indptr)).clamp(min=1).float()[:, None]
    listed, train = graph.features.tocoo(), torch.from_numpy(np.flatnonzero(graph.split == TRAIN))
    places = torch.from_numpy(np.stack([listed.row, listed.col]).astype(np.int64))
    x, values = torch.from_numpy(graph.features.toarray() if stored == "dense" else listed.data), None
    if stored == "sparse":
        x, values = torch.sparse_coo_tensor(places, x, listed.shape, is_coalesced=True), x
    truth = torch.from_numpy(graph.labels)[train]
    widths = [graph.num_features, *[HIDDEN] * (LAYERS - 1), CLASSES]
    convs = torch.nn.ModuleList(SAGEConv(a, b, aggr="mean") for a, b in itertools.pairwise(widths))
    optimizer = torch.optim.Adam(convs.parameters(), lr=0.01)
    del graph, listed
    loading_peak = peak_rss_bytes()
    forget_peak()
    turns.say(event="ready", loading_peak_rss_bytes=loading_peak)

    def first_layer() -> Any:
        if values is None:
            return convs[0](F.dropout(x, DROPOUT), adjacency)
        h = torch.sparse_coo_tensor(places, F.dropout(values, DROPOUT), x.shape, is_coalesced=True)
        neighbours, own = convs[0].lin_l, convs[0].lin_r
        mean = inverse * (adjacency @ torch.sparse.mm(h, neighbours.weight.t()))
        return mean + neighbours.bias + torch.sparse.mm(h, own.weight.t())

    while turns.wait():
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        h = first_layer()
        for conv in convs[1:]:
            h = conv(F.dropout(F.relu(h), DROPOUT), adjacency)
        loss = F.cross_entropy(h[train], truth)
        loss.backward()
        optimizer.step()
        spent = {"epoch_s": time.perf_counter() - start, "cpu_s": turns.cpu_s()}
        turns.say(loss=loss.item(), **spent, peak_rss_bytes=peak_rss_bytes())


def rows_of(rounds: dict[str, Any]) -> list[list[str]]:
    """A line for each contestant: seconds, peak memory, and all of them over those of sparse features."""
    rows, least = [], measured_of(rounds["sparse"])
    for name, epochs in rounds.items():
        found = measured_of(epochs)
        ratio = {key: f"{value / least[key]:.1f}" for key, value in found.items()}
        spread = Spread.of(round_medians(epochs)).show(3)
        memory, cpu = f"{found['memory'] / 1e6:,.0f}", f"{found['cpu']:.3f}"
        rows.append([name, spread, ratio["wall"], cpu, ratio["cpu"], memory, ratio["memory"]])
    return rows


def measured_of(epochs: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Median epoch, the processor's time of all processes, and the larger one's memory."""
    every = [epoch for turn in epochs for epoch in turn]
    cpu_s = [sum(process["cpu_s"] for process in epoch["processes"]) for epoch in every]
    wall = statistics.median(round_medians(epochs))
    memory = max(epoch["peak_rss_bytes"] for epoch in every)
    return {"wall": wall, "cpu": statistics.median(cpu_s), "memory": memory}


def verdict(rounds: dict[str, Any]) -> str:
    """Whether sparse features are as much faster and smaller as they have to be."""
    dense, sparse = (measured_of(rounds[name]) for name in ("dense", "sparse"))
    faster, smaller = dense["cpu"] / sparse["cpu"], dense["memory"] / sparse["memory"]
    told = ["reached" if found >= aim else "missed" for found, aim in ((faster, FASTER), (smaller, SMALLER))]
    return (
        f"Stored sparse, an epoch takes 1/{faster:.1f} of the processor's time of that of dense ones (aim: "
        f"1/{FASTER}, {told[0]}) and a worker 1/{smaller:.1f} of the memory "
        f"(aim: 1/{SMALLER}, {told[1]}), about {PROCESS_BYTES / 1e6:.0f} MB of it the "
        "interpreter and its libraries."
    )


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
    parser.add_argument("--stored", default="dense", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pyg is not None:
        run_pyg(options.pyg, options.stored)
        return
    before, rounds = machine(), race(options)
    head = ["features", "epoch, s", "/ sparse", "processor, s", "/ sparse", "larger worker, MB", "/ sparse"]
    write_record(
        "sparse_features",
        claim="Epoch and memory with features of which almost none are set, multiplied as such and as dense.",
        body=f"{verdict(rounds)}\n\n{table(head, rows_of(rounds))}",
        raw=rounds,
        does_not_show="real text features, whose columns are set much more unevenly; other models than SAGE.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
