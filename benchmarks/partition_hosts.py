"""Rows that cross the link between machines: parts cut for machines beside a flat cut.

    python -m benchmarks.partition_hosts                    8 graphs, 2 machines x 2, 2 x 4 and 4 x 2 workers
    python -m benchmarks.partition_hosts --graphs cora

A flat cut's parts lie on the machines in its own order. `once` counts a row once for each machine that
reads it, however many of its workers do: what a halo shared by a machine's workers would fetch. Figures are
counts, not times.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import machine, table, write_record
from benchmarks.workloads import real_graphs
from partition.assign import PartOf, Recipe, assign
from partition.graph import Graph
from partition.sources import load
from partition.volume import volume_matrix

LAYOUTS = ((2, 2), (2, 4), (4, 2))
FIGURES = ("all", "between", "once", "arcs")


def figures(graph: Graph, part_of: PartOf, hosts: int, workers: int) -> dict[str, float]:
    """Rows in all, between machines, and those counted once a machine; worst part's arcs over the mean."""
    matrix = volume_matrix(graph, part_of, hosts * workers)
    host = np.arange(hosts * workers) // workers
    once = volume_matrix(graph, host[part_of].astype(np.int32), hosts)
    arcs = np.bincount(part_of, weights=graph.adjacency.degree, minlength=hosts * workers)
    counts = (matrix.sum(), matrix[host[:, None] != host].sum(), once.sum(), arcs.max() / arcs.mean())
    return dict(zip(FIGURES, map(float, counts), strict=True))


def measure(graph: Graph, hosts: int, workers: int) -> dict[str, dict[str, float]]:
    """Both cuts."""
    return {
        name: figures(
            graph,
            assign(graph, Recipe(parts=hosts * workers, hosts=of), lambda _: None),
            hosts,
            workers,
        )
        for name, of in (("flat", 1), ("machines", hosts))
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="+", default=[])
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    runs: list[dict[str, Any]] = []
    for name, path in real_graphs(options.shared).items():
        if options.graphs and name not in options.graphs:
            continue
        graph = load(f"npz:{path},features=degree")
        for hosts, workers in LAYOUTS:
            cuts = measure(graph, hosts, workers)
            runs.append({"graph": name, "hosts": hosts, "workers": workers, "cuts": cuts})
            print(name, hosts, workers, cuts, flush=True)
    report(runs, before)


def report(runs: list[dict[str, Any]], before: dict[str, Any]) -> None:
    rows = []
    for run in runs:
        flat, cut = run["cuts"]["flat"], run["cuts"]["machines"]
        rows.append([run["graph"], f"{run['hosts']} x {run['workers']}"])
        rows[-1] += [f"{found[name]:,.0f}" for found in (flat, cut) for name in FIGURES[:3]]
        rows[-1] += [f"{flat['arcs']:.2f}", f"{cut['arcs']:.2f}"]
    pairs = [(run["cuts"]["flat"], run["cuts"]["machines"]) for run in runs]
    kept = [(flat, cut) for flat, cut in pairs if flat["between"] and cut["once"]]
    between, once, everything = (
        statistics.geometric_mean(cut[name] / flat[of] for flat, cut in kept)
        for name, of in (("between", "between"), ("once", "between"), ("all", "all"))
    )
    head = ["graph", "machines", "flat: all", "between", "once", "cut for machines: all", "between", "once"]
    write_record(
        "partition_hosts",
        claim=f"Over {len(kept)} layouts, parts cut for machines send {between:.2f} of a flat cut's rows "
        f"between machines, for {everything:.2f} of its rows in all; counted once a machine {once:.2f} "
        "(geometric means).",
        body=table([*head, "flat: arcs", "cut: arcs"], rows),
        raw=runs,
        does_not_show="times, and a flat cut whose parts lie on the machines in the best order. Layouts of "
        "which a cut sends nothing between machines are left out of the means.",
        before=before,
    )


if __name__ == "__main__":
    main()
