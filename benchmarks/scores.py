"""Scores on the real graphs, exact, with 1, 2 and 4 workers, beside published full-graph figures.

    python -m benchmarks.scores                      every graph, 5 seeds; goes on where an earlier call ended
    python -m benchmarks.scores --graphs cora --seeds 2 --parts 1 2

Recipes are in benchmarks/graphs.py, one a graph, chosen once by hand and not searched. A seed decides
weights and dropout; splits are the files' own, or a 60/20/20 split with seed 0 where a file has none. The
number of workers must not matter: exact training equals one process up to rounding, so the columns differ
by what rounding does to a training that is not at a fixed point.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

from benchmarks.graphs import SETUPS, source_of
from benchmarks.measure import (
    RESULTS,
    add_run,
    machine,
    mean_and_deviation,
    read_runs,
    table,
    write_record,
)
from benchmarks.workers import Group, Job
from benchmarks.workloads import Skip, parts_folder

Run = dict[str, Any]


def run_all(options: argparse.Namespace, file: Path) -> None:
    """Run what is missing, a line each, until the time is up."""
    deadline = time.monotonic() + 60 * options.minutes
    there = {(run["seed"], run["parts"], run["graph"]) for run in read_runs(file)}
    groups: dict[int, Group] = {}
    with contextlib.ExitStack() as stack:
        for seed, graph, parts in itertools.product(range(options.seeds), options.graphs, options.parts):
            if (seed, parts, graph) in there or time.monotonic() > deadline:
                continue
            if parts not in groups:
                groups[parts] = stack.enter_context(Group(parts))
            config = dataclasses.replace(SETUPS[graph].config, seed=seed, threads=1)
            folder = parts_folder(source_of(graph, options.shared), parts)
            summary = groups[parts].run(Job(parts_dir=str(folder), config=config.to_json()))
            line = {
                "graph": graph,
                "parts": parts,
                "seed": seed,
                "metric": summary["metric"],
                "val": summary["val_score"],
                "test": summary["test_score"],
                "best_epoch": summary["best_epoch"],
                "run_s": round(summary["run_s"], 2),
            }
            add_run(file, line)
            print(line, flush=True)


def row_of(graph: str, runs: list[Run], parts: list[int]) -> list[str]:
    """One graph: recipe, metric, a column per number of workers, the published figure."""
    config = SETUPS[graph].config
    mine = [run for run in runs if run["graph"] == graph]
    cells = []
    for count in parts:
        tests = [100 * run["test"] for run in mine if run["parts"] == count]
        cells.append(f"{mean_and_deviation(tests)} ({len(tests)})" if tests else "-")
    recipe = (
        f"{config.model} {config.layers}x{config.hidden}, dropout {config.dropout}, {config.epochs} epochs"
    )
    metric = mine[0]["metric"] if mine else "-"
    return [graph, recipe, metric, *cells, SETUPS[graph].published]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="*", default=list(SETUPS), choices=list(SETUPS), metavar="GRAPH")
    parser.add_argument("--parts", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so long")
    parser.add_argument("--report", action="store_true", help="the table alone")
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before, file = machine(), RESULTS / "scores.jsonl"
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.report:
        run_all(options, file)
    runs = read_runs(file)
    if not runs:
        raise Skip("no runs yet")
    workers = [f"workers: {parts}, % (seeds)" for parts in options.parts]
    header = ["graph", "recipe", "metric", *workers, "published, full graph"]
    write_record(
        "scores",
        claim="Test score at the best validation score: the number of workers does not matter.",
        body=table(header, [row_of(graph, runs, options.parts) for graph in options.graphs]),
        raw={
            "runs": "scores.jsonl",
            "recipes": {name: SETUPS[name].config.to_json() for name in options.graphs},
        },
        does_not_show="tuned recipes, and published figures on the same random splits (only those of cora, "
        "citeseer, eukloc and blogcatalog are published ones). blogcatalog and deezer-hu have no features: "
        "they get 128 singular directions of the adjacency. Micro-F1 counts probabilities above one half.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
