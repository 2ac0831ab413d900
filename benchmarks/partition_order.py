"""What the order of the nodes inside a part does to the sum over its neighbours.

    python -m benchmarks.partition_order        workloads (2 parts) and real graphs (1 part), one thread
    python -m benchmarks.partition_order --graphs products-like --rounds 3

Inner block of part 0, rows and columns renumbered by each order; DGL's `copy_u_sum` and torch's sparse sum
over it (the two kernels that need nothing of ours), round after round in turn. `shuffled` is the reference:
ids of the workloads carry no locality, those of the real graphs may.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("DGLBACKEND", "pytorch")

import numpy as np
import torch

from benchmarks.measure import Spread, machine, table, write_record
from benchmarks.workloads import real_graphs, workload_path
from partition.adjacency import Adjacency, Int64Array, csr_from_arcs, row_numbers
from partition.assign import Recipe, assign
from partition.assign.metis import metis_csr
from partition.graph import Graph
from partition.order import locality_order
from partition.sources import load

WIDTHS = {"reddit-like": 256, "products-like": 128}
PIECES = (16, 64, 128, 256, 512)


def inner_block(graph: Graph, parts: int) -> Adjacency:
    """The arcs inside part 0."""
    part_of = assign(graph, Recipe(parts=parts, starts=1, refine=False, objective="cut"), lambda _: None)
    rows = row_numbers(graph.indptr)
    inside = (part_of[rows] == 0) & (part_of[graph.indices] == 0)
    local = np.cumsum(part_of == 0) - 1
    return csr_from_arcs(
        local[graph.indices[inside]], local[rows[inside]], int((part_of == 0).sum()), symmetrise=False
    )


def renumbered(block: Adjacency, order: Int64Array) -> Adjacency:
    """The same with row order[k] at place k."""
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    return csr_from_arcs(place[block.indices], place[row_numbers(block.indptr)], order.size, symmetrise=False)


def orders(block: Adjacency) -> dict[str, Callable[[], Int64Array]]:
    """Every order by name; computing it is timed too."""
    rows = block.num_nodes

    def pieces(count: int) -> Callable[[], Int64Array]:
        return lambda: np.argsort(metis_csr(block, count), kind="stable")

    made: dict[str, Callable[[], Int64Array]] = {
        "shuffled": lambda: np.random.default_rng(0).permutation(rows),
        "source's ids": lambda: np.arange(rows),
        "by degree": lambda: np.argsort(-block.degree, kind="stable"),
        "reverse Cuthill-McKee": lambda: locality_order(block, order="rcm"),
    }
    made.update({f"METIS {count} pieces": pieces(count) for count in PIECES if count * 20 <= rows})
    made["default (pieces)"] = lambda: locality_order(block)
    return made


def kernels(block: Adjacency, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The two sums over the rows of `x`."""
    import dgl
    import dgl.ops

    rows = block.num_nodes
    narrow = [torch.from_numpy(piece.astype(np.int32)) for piece in (block.indptr, block.indices)]
    made = dgl.graph(("csc", (*narrow, torch.empty(0, dtype=torch.int32))), num_nodes=rows).formats("csc")
    csr = torch.sparse_csr_tensor(*narrow, torch.ones(block.num_arcs), (rows, rows), check_invariants=False)
    return {
        "DGL": lambda: dgl.ops.copy_u_sum(made, x),
        "torch": lambda: torch.sparse.mm(csr, x, "sum"),
    }


def measure(name: str, graph: Graph, parts: int, width: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each kernel under each order; kernels and orders take turns."""
    block = inner_block(graph, parts)
    contenders: dict[tuple[str, str], Callable[[], Any]] = {}
    spent, x = {}, torch.randn(block.num_nodes, width)
    for order_name, make in orders(block).items():
        start = time.perf_counter()
        order = make()
        spent[order_name] = time.perf_counter() - start
        for kernel, compute in kernels(renumbered(block, order), x).items():
            contenders[order_name, kernel] = compute
    times: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for turn in range(rounds + 1):
        for key, compute in contenders.items():
            start = time.perf_counter()
            compute()
            if turn:
                times[key].append(1000 * (time.perf_counter() - start))
    print(name, {key: round(float(np.median(values)), 2) for key, values in times.items()}, flush=True)
    return {
        "graph": name,
        "rows": block.num_nodes,
        "arcs": block.num_arcs,
        "width": width,
        "order_s": spent,
        "ms": {f"{order} / {kernel}": values for (order, kernel), values in times.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = machine()
    sources = {name: f"npz:{workload_path(name, options.shared)}" for name in WIDTHS}
    sources |= {name: f"npz:{path},features=degree" for name, path in real_graphs(options.shared).items()}
    runs = [
        measure(name, load(source), 2 if name in WIDTHS else 1, WIDTHS.get(name, 128), options.rounds)
        for name, source in sources.items()
        if not options.graphs or name in options.graphs
    ]
    report(runs, before)


def report(runs: list[dict[str, Any]], before: dict[str, Any]) -> None:
    names = list(dict.fromkeys(key.rpartition(" / ")[0] for run in runs for key in run["ms"]))
    tables = []
    for kernel in ("DGL", "torch"):
        rows = []
        for run in runs:
            base = Spread.of(run["ms"][f"shuffled / {kernel}"]).median
            cells = []
            for name in names:
                values = run["ms"].get(f"{name} / {kernel}")
                cells.append(
                    "-"
                    if values is None
                    else f"{Spread.of(values).median:.2f} ({base / Spread.of(values).median:.2f}x)"
                )
            rows.append([run["graph"], *cells])
        tables.append(
            f"{kernel}: milliseconds (times as fast as shuffled)\n\n" + table(["graph", *names], rows)
        )
    spent = table(
        ["graph", *names],
        [[run["graph"], *(f"{run['order_s'].get(n, 0):.2f}" for n in names)] for run in runs],
    )
    first = runs[0]
    gain = (
        Spread.of(first["ms"]["shuffled / DGL"]).median
        / Spread.of(first["ms"]["default (pieces)" + " / DGL"]).median
    )
    write_record(
        "partition_order",
        claim=f"Renumbering the nodes of a part by METIS pieces makes the sum over {first['graph']} "
        f"{gain:.1f} times as fast as a shuffled order.",
        body="\n\n".join(tables) + f"\n\nSeconds to find the order, once:\n\n{spent}",
        raw=runs,
        does_not_show="our own compiled kernel (benchmarks/kernels.py), or more than one thread.",
        before=before,
    )


if __name__ == "__main__":
    main()
