"""What `predict --nodes` costs beside a full pass: arcs and rows computed, feature rows read, seconds.

    python -m benchmarks.new_nodes                       products-like, 1,000 nodes, 1 to 3 layers
    python -m benchmarks.new_nodes --graph small --nodes 100 --repeats 1

GraphSAGE of width 128, one part, one thread; the weights do not matter. Nodes are drawn at random, which is
the worst case, or lie together (one node and those around it). Rows of the two ways are compared, too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import machine, table, write_record
from benchmarks.workloads import Skip, workload_parts
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import GNN, build_model
from bnsgcn.out.best_model import BestModel
from bnsgcn.predict import Nodes, Predictor
from partition.store import Part, open_part

HEADER = (
    "layers", "nodes", "arcs", "of a full pass", "rows", "of a full pass", "features read", "seconds", "full",
    "difference",
)  # fmt: skip


def drawn(part: Part, count: int, rng: np.random.Generator, *, together: bool) -> Nodes:
    """Node ids: at random, or a node, its neighbours and theirs, breadth first."""
    if not together:
        return np.sort(rng.choice(part.node_ids, count, replace=False))
    found = [int(rng.integers(part.num_inner))]
    seen, at = set(found), 0
    while len(found) < count and at < len(found):
        row, at = found[at], at + 1
        near = part.inner_indices[part.inner_indptr[row] : part.inner_indptr[row + 1]].tolist()
        fresh = [each for each in near if each not in seen]
        seen.update(fresh)
        found += fresh
    nodes: Nodes = np.array(part.node_ids[found[:count]])
    return nodes


def cost(part: Part, model: GNN, config: TrainConfig, chosen: Nodes | None) -> dict[str, Any]:
    """Of one prediction, the making of its blocks included."""
    best = BestModel(model=model, config=config, manifest=part.manifest, epoch=0)
    begin = time.perf_counter()
    predictor = Predictor(World.single(), part, best, config)
    places, rows = predictor.exact_rows(chosen, config.layers)
    seconds = time.perf_counter() - begin
    hops = predictor.hop_set(chosen, config.layers)
    return {
        "arcs": sum(layer.inner.csr.num_arcs for layer in hops.layers),
        "rows": sum(layer.destination.size for layer in hops.layers),
        "read": int(hops.layers[0].source.size),
        "seconds": seconds,
        "out": rows[np.argsort(places)],
        "places": np.sort(places),
    }


def compared(part: Part, layers: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for nodes at random and one for nodes together."""
    config = TrainConfig(model="sage", layers=layers, hidden=128, device="cpu")
    model = build_model(part.manifest, config)
    assert isinstance(model, GNN)
    model.eval()
    full, lines = cost(part, model, config, None), []
    for kind in ("random", "together"):
        for repeat in range(options.repeats):
            chosen = drawn(part, options.nodes, np.random.default_rng(repeat), together=kind == "together")
            some = cost(part, model, config, chosen)
            same = full["out"][np.searchsorted(full["places"], chosen)]
            lines.append(
                {"layers": layers, "kind": kind, "nodes": chosen.size}
                | {name: some[name] for name in ("arcs", "rows", "read", "seconds")}
                | {f"full_{name}": full[name] for name in ("arcs", "rows", "seconds")}
                | {"difference": float((some["out"] - same).abs().max())}
            )
    return lines


def row_of(lines: list[dict[str, Any]]) -> list[str]:
    """The medians of some lines."""
    found = {name: float(np.median([line[name] for line in lines])) for name in lines[0] if name != "kind"}
    return [
        f"{found['layers']:.0f}",
        f"{found['nodes']:,.0f} {lines[0]['kind']}",
        f"{found['arcs']:,.0f}",
        f"{100 * found['arcs'] / found['full_arcs']:.2f} %",
        f"{found['rows']:,.0f}",
        f"{100 * found['rows'] / found['full_rows']:.2f} %",
        f"{found['read']:,.0f}",
        f"{found['seconds']:.2f}",
        f"{found['full_seconds']:.2f}",
        f"{found['difference']:.1e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graph", default="products-like")
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--layers", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(1)
    part = open_part(workload_parts(options.graph, 1, options.shared), 0, verify=False)
    lines = [line for layers in options.layers for line in compared(part, layers, options)]
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["layers"], line["kind"]), []).append(line)
    write_record(
        "new_nodes",
        claim=f"Predicting {options.nodes:,} nodes of {options.graph} computes their neighbourhood alone.",
        body=table(HEADER, [row_of(group) for group in groups.values()]),
        raw=lines,
        does_not_show="several parts, whose halo rows travel; a graph with less or more overlap between "
        "neighbourhoods. Seconds include the making of the blocks and a look at every arc's id.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
