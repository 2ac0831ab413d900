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
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy import BASE
from benchmarks.accuracy import GRAPHS as STUDIED
from benchmarks.graphs import reduced_source
from benchmarks.measure import RESULTS, add_run, machine, mean_and_deviation, read_runs, table, write_record
from benchmarks.workers import Group, Job
from benchmarks.workloads import Skip, parts_folder

GRAPHS = (*STUDIED, "deezer-hu")
"""Four graphs; debian12-tags are other labels of debian12-deps."""
STORAGES = ("fp32", "bf16")
PARTS, CLOSE = 2, 0.1
"""A mean within so many points of fp32's is as good."""
Run = dict[str, Any]


def run_all(options: argparse.Namespace, file: Path) -> None:
    """Run what is missing, a line each, until the time is up."""
    deadline = time.monotonic() + 60 * options.minutes
    there = {(run["seed"], run["graph"], run["storage"]) for run in read_runs(file)}
    with Group(PARTS) as group:
        for seed, graph, storage in itertools.product(range(options.seeds), GRAPHS, STORAGES):
            if (seed, graph, storage) in there or time.monotonic() > deadline:
                continue
            config = dataclasses.replace(BASE, seed=seed, storage=storage)
            folder = parts_folder(reduced_source(graph, options.shared), PARTS)
            summary = group.run(Job(parts_dir=str(folder), config=config.to_json()))
            line = {
                "graph": graph,
                "storage": storage,
                "seed": seed,
                "metric": summary["metric"],
                "test": summary["test_score"],
                "sent_bytes": summary["sent_bytes_per_epoch"],
            }
            add_run(file, line)
            print(line, flush=True)


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so long")
    parser.add_argument("--report", action="store_true", help="the table alone")
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before, file = machine(), RESULTS / "storage.jsonl"
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.report:
        run_all(options, file)
    runs = read_runs(file)
    if not runs:
        raise Skip("no runs yet")
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
