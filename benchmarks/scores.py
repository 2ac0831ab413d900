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
import dataclasses
import itertools
from collections.abc import Iterator

from benchmarks.graphs import SETUPS, source_of
from benchmarks.measure import machine, mean_and_deviation, table, write_record
from benchmarks.seed_runs import Asked, Run, all_runs, study_parser
from benchmarks.workloads import Skip


def asked(options: argparse.Namespace) -> Iterator[Asked]:
    """Every seed of all graphs, then the next."""
    for seed, graph, parts in itertools.product(range(options.seeds), options.graphs, options.parts):
        yield Asked(
            names={"graph": graph, "parts": parts, "seed": seed},
            source=source_of(graph, options.shared),
            parts=parts,
            config=dataclasses.replace(SETUPS[graph].config, seed=seed, threads=1),
        )


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
    parser = study_parser(__doc__, seeds=5)
    parser.add_argument("--graphs", nargs="*", default=list(SETUPS), choices=list(SETUPS), metavar="GRAPH")
    parser.add_argument("--parts", nargs="*", type=int, default=[1, 2, 4])
    options, before = parser.parse_args(), machine()
    runs = all_runs("scores.jsonl", asked(options), options)
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
