"""What `predict --nodes` costs beside a full pass: arcs and rows computed, feature rows read, processor time.

    python -m benchmarks.new_nodes                       products-like, 1,000 nodes, 1 to 3 layers
    python -m benchmarks.new_nodes --graph small --nodes 100 --repeats 1

GraphSAGE of width 128, one part, one thread; the weights do not matter. Nodes are drawn at random, which is
the worst case, or lie together (one node and those around it). Beside what is computed stands the least that
can be: arcs into, and rows of, exactly the nodes that each layer needs, counted apart from the engine.
Rows of the two ways are compared, too.
"""

from __future__ import annotations

import argparse
import itertools
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
    "layers", "nodes", "arcs, %", "least, %", "rows, %", "least, %", "features read", "cpu, s", "full, s",
    "%", "difference",
)  # fmt: skip
AIM = 0.05
"""Share of a full pass that some nodes may cost."""


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


def least(part: Part, chosen: Nodes | None, layers: int) -> dict[str, int]:
    """Arcs and rows, self loops among them, that no way to compute `chosen` exactly can do without."""
    needed = np.ones(part.num_inner, bool) if chosen is None else np.isin(part.node_ids, chosen)
    degree, arcs, rows = np.diff(part.inner_indptr) + 1, 0, 0
    for _ in range(layers):
        arcs, rows = arcs + int(degree[needed].sum()), rows + int(needed.sum())
        reached = part.inner_indices[np.repeat(needed, degree - 1)]
        needed[reached] = True
    return {"arcs": arcs, "rows": rows, "read": int(needed.sum())}


def cost(part: Part, model: GNN, config: TrainConfig, chosen: Nodes | None) -> dict[str, Any]:
    """Of one prediction, the making of its blocks included."""
    best = BestModel(model=model, config=config, manifest=part.manifest, epoch=0)
    begin = time.process_time()
    predictor = Predictor(World.single(), part, best, config)
    places, rows = predictor.exact_rows(chosen, config.layers)
    cpu_s = time.process_time() - begin
    hops = predictor.hop_set(chosen, config.layers)
    return {
        "arcs": sum(layer.inner.csr.num_arcs for layer in hops.layers),
        "rows": sum(layer.destination.size for layer in hops.layers),
        "read": int(hops.layers[0].source.size),
        "cpu_s": cpu_s,
        "out": rows[np.argsort(places)],
        "places": np.sort(places),
    }


def compared(part: Part, layers: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for nodes at random and one for nodes together, `repeats` times, beside a full pass each."""
    config = TrainConfig(model="sage", layers=layers, hidden=128, device="cpu")
    model = build_model(part.manifest, config)
    assert isinstance(model, GNN)
    model.eval()
    lines, whole = [], least(part, None, layers)
    cost(part, model, config, None)  # memory is fresh, and the part's files are not in memory yet
    for repeat, kind in itertools.product(range(options.repeats), ("random", "together")):
        chosen = drawn(part, options.nodes, np.random.default_rng(repeat), together=kind == "together")
        full, some = (cost(part, model, config, nodes) for nodes in (None, chosen))
        bound = least(part, chosen, layers)
        assert whole == {name: full[name] for name in whole}
        same = full["out"][np.searchsorted(full["places"], chosen)]
        line = {"layers": layers, "kind": kind, "nodes": chosen.size, "read": some["read"]}
        for name in ("arcs", "rows", "cpu_s"):
            line |= {name: some[name], f"full_{name}": full[name]}
        line |= {f"least_{name}": count for name, count in bound.items()}
        lines.append(line | {"difference": float((some["out"] - same).abs().max())})
    return lines


def row_of(lines: list[dict[str, Any]]) -> list[str]:
    """The medians of some lines."""
    found = {name: float(np.median([line[name] for line in lines])) for name in lines[0] if name != "kind"}

    def share(part: str, whole: str) -> str:
        return f"{100 * found[part] / found[whole]:.2f}"

    return [
        f"{found['layers']:.0f}",
        f"{found['nodes']:,.0f} {lines[0]['kind']}",
        share("arcs", "full_arcs"),
        share("least_arcs", "full_arcs"),
        share("rows", "full_rows"),
        share("least_rows", "full_rows"),
        f"{found['read']:,.0f}",
        f"{found['cpu_s']:.3f}",
        f"{found['full_cpu_s']:.3f}",
        share("cpu_s", "full_cpu_s"),
        f"{found['difference']:.1e}",
    ]


def verdict(groups: dict[tuple[int, str], list[dict[str, Any]]]) -> str:
    """How far what is computed is above the least, and where that alone is above the aim."""
    above = max(line["arcs"] / line["least_arcs"] for lines in groups.values() for line in lines)

    def within(part: str) -> str:
        cases = (
            f"{layers} layers {kind}"
            for (layers, kind), lines in groups.items()
            if np.median([line[part] / line["full_arcs"] for line in lines]) <= AIM
        )
        return ", ".join(cases) or "none"

    return (
        f"At most {above:.2f} times the arcs of the neighbourhood itself are computed. Within the aim of "
        f"{AIM:.0%} of the arcs of a full pass: {within('arcs')}; by the neighbourhood itself it could be "
        f"{within('least_arcs')}."
    )


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
        body=f"{verdict(groups)}\n\n{table(HEADER, [row_of(group) for group in groups.values()])}",
        raw=lines,
        does_not_show="several parts, whose halo rows travel; a graph with less or more overlap between "
        "neighbourhoods; the start of a process and the opening of the part. Times include making blocks.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
