"""Scores with rows kept as bf16 beside fp32, on four real graphs in two parts, seed by seed.

    python -m benchmarks.storage                   five seeds; goes on where an earlier call ended
    python -m benchmarks.storage --report          the table alone

The setting is that of the accuracy study (reduced graphs, GraphSAGE 3 x 32, 40 epochs). Scores alone: nothing
here is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
from collections.abc import Iterator

from benchmarks.accuracy import BASE
from benchmarks.accuracy import GRAPHS as STUDIED
from benchmarks.graphs import reduced_source
from benchmarks.measure import machine, mean_and_deviation, table, write_record
from benchmarks.seed_runs import Asked, Run, all_runs, study_parser
from benchmarks.workloads import Skip

GRAPHS = (*STUDIED, "deezer-hu")
"""Four graphs; debian12-tags are other labels of debian12-deps."""
STORAGES = ("fp32", "bf16")
PARTS, CLOSE = 2, 0.1
"""A mean within so many points of fp32's is as good."""


def asked(options: argparse.Namespace) -> Iterator[Asked]:
    """Every seed of all graphs, then the next."""
    for seed, graph, storage in itertools.product(range(options.seeds), GRAPHS, STORAGES):
        yield Asked(
            names={"graph": graph, "storage": storage, "seed": seed},
            source=reduced_source(graph, options.shared),
            parts=PARTS,
            config=dataclasses.replace(BASE, seed=seed, storage=storage),
        )


def row_of(graph: str, runs: list[Run]) -> tuple[list[str], float]:
    """One graph's row, and the mean difference in points."""
    mine = {(run["seed"], run["storage"]): run for run in runs if run["graph"] == graph}
    seeds = [seed for seed in range(100) if {(seed, storage) for storage in STORAGES} <= mine.keys()]
    scores = {kind: [100 * mine[seed, kind]["test"] for seed in seeds] for kind in STORAGES}
    gaps = [half - full for full, half in zip(scores["fp32"], scores["bf16"], strict=True)]
    sent = [statistics.fmean(mine[seed, kind]["sent_bytes"] for seed in seeds) for kind in STORAGES]
    cells = [
        graph,
        mine[seeds[0], "fp32"]["metric"],
        *(mean_and_deviation(scores[kind]) for kind in STORAGES),
    ]
    return [*cells, mean_and_deviation(gaps), f"{sent[1] / sent[0]:.2f}", str(len(seeds))], statistics.fmean(
        gaps
    )


def main() -> None:
    options, before = study_parser(__doc__, seeds=5).parse_args(), machine()
    runs = all_runs("storage.jsonl", asked(options), options)
    rows = [row_of(graph, runs) for graph in GRAPHS if any(run["graph"] == graph for run in runs)]
    near = sum(abs(gap) <= CLOSE for _, gap in rows)
    header = ["graph", "metric", "fp32, test %", "bf16, test %", "difference, points", "bytes sent", "seeds"]
    write_record(
        "storage",
        claim=f"Rows kept as bf16: the mean test score is within {CLOSE} point of fp32's on {near} of "
        f"{len(rows)} labellings of four real graphs; half the bytes are sent.",
        body=table(header, [cells for cells, _ in rows]),
        raw={"runs": "storage.jsonl", "config": BASE.to_json()},
        does_not_show="epoch times, larger graphs, GCN and GAT.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
