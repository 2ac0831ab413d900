"""Scores of the tuned recipes on the real graphs, exact, beside published full-graph figures of one protocol.

    python -m benchmarks.tuned                       every case, 10 seeds; goes on where an earlier call ended
    python -m benchmarks.tuned --cases cora computers-sage --seeds 3 --parts 1 2

The settings are those of launch/recipes/, for GCN on the graphs of Luo et al. with what CASES changes. A seed
decides weights and dropout, and the split: random 60/20/20 ones (amazon, coauthor), the numbered ones of the
file (minesweeper), like Planetoid's with 20 nodes a class (cora-random, citeseer-random); cora and citeseer
have the public one. The test score is that of the epoch with the best validation score.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, mean_and_deviation, table, write_record
from benchmarks.seed_runs import Asked, Run, all_runs, study_parser
from benchmarks.workloads import Skip, real_graphs
from bnsgcn.config import TrainConfig
from launch.options import Train
from launch.parse import command_of

LUO = "Luo et al., NeurIPS 2024, as recalled"
KIPF = "Kipf and Welling, ICLR 2017"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One model on one graph: `options` of the source, in which {seed} is the run's, and of training."""

    recipe: str
    goal: float
    published: str
    options: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self, seed: int) -> TrainConfig:
        """The recipe's options and what is changed of them."""
        given = {"source": "x", "run_dir": "x", "recipe": self.recipe, "seed": seed, "threads": 1}
        command = command_of("train", given | self.changes)
        assert isinstance(command, Train)
        return command.options


def _random(recipe: str, goal: float, published: str, *, features: str, **changes: Any) -> Case:
    """On random 60/20/20 splits."""
    options = f",features={features},split=random,split_seed={{seed}}"
    published = f"{published} ({LUO})"
    changes |= {"amp": "bf16"}  # where dense products are most of the time
    return Case(recipe=recipe, goal=goal, published=published, options=options, changes=changes)


GCN = {"model": "gcn"}


CASES = {
    "cora": Case(recipe="cora", goal=81.5, published=f"81.5 ({KIPF})", options=",features=row"),
    "citeseer": Case(recipe="citeseer", goal=70.3, published=f"70.3 ({KIPF})", options=",features=row"),
    "photo-sage": _random("amazon-photo", 96.7, "96.78", features="standardise"),
    "photo-gcn": _random("amazon-photo", 96.0, "96.10", features="standardise", **GCN),
    "cs-sage": _random("coauthor-cs", 96.3, "96.38", features="row"),
    "cs-gcn": _random("coauthor-cs", 96.1, "96.17", features="row", **GCN),
    "computers-sage": _random("amazon-computers", 93.2, "93.25", features="standardise"),
    "computers-gcn": _random("amazon-computers", 93.9, "93.99", features="standardise", **GCN),
    "minesweeper": Case(recipe="minesweeper", goal=97.5, published=f"97.77 ({LUO})", options=",split={seed}"),
    "cora-random": Case(
        recipe="cora",
        goal=85.1,
        published=f"85.10 ({LUO}, other nets)",
        options=",features=row,split=planetoid,split_seed={seed}",
    ),
    "citeseer-random": Case(
        recipe="citeseer",
        goal=73.1,
        published=f"73.14 ({LUO}, other nets)",
        options=",features=row,split=planetoid,split_seed={seed}",
    ),
}


def source_of(case: Case, seed: int, shared: Path | None) -> str:
    """The SOURCE string of a run."""
    return f"npz:{real_graphs(shared)[case.recipe]}{case.options.format(seed=seed)}"


def asked(options: argparse.Namespace) -> Iterator[Asked]:
    """Every seed of all cases, then the next."""
    for seed, name, parts in itertools.product(range(options.seeds), options.cases, options.parts):
        config = CASES[name].config(seed)
        yield Asked(
            names={"case": name, "seed": seed, "parts": parts},
            source=source_of(CASES[name], seed, options.shared),
            parts=parts,
            config=config,
            kept={"config": config.to_json()},
        )


def row_of(name: str, runs: list[Run], parts: list[int]) -> list[str]:
    """One case: settings, a column per number of workers, the goal and the published figure."""
    mine, case = [run for run in runs if run["case"] == name], CASES[name]
    config = TrainConfig.from_json(mine[0]["config"]) if mine else case.config(0)
    cells = []
    for count in parts:
        tests = [100 * run["test"] for run in mine if run["parts"] == count]
        cells.append(f"{mean_and_deviation(tests)} ({len(tests)})" if tests else "-")
    tests = [100 * run["test"] for run in mine if run["parts"] == parts[0]]
    reached = "-" if not tests else "yes" if sum(tests) / len(tests) >= case.goal else "no"
    shape = f"{config.model} {config.graph_layers}x{config.hidden}, {config.epochs} epochs"
    return [name, shape, *cells, f"{case.goal}", reached, case.published]


def main() -> None:
    parser = study_parser(__doc__, seeds=10)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--parts", nargs="*", type=int, default=[1])
    options, before = parser.parse_args(), machine()
    runs = all_runs("tuned.jsonl", asked(options), options)
    workers = [f"workers: {parts}, % (runs)" for parts in options.parts]
    header = ["case", "settings", *workers, "goal", "reached", "published"]
    write_record(
        "tuned",
        claim="Test score at the best validation score, by the recipes that come with the command.",
        body=table(header, [row_of(name, runs, options.parts) for name in options.cases]),
        raw={"runs": "tuned.jsonl"},
        does_not_show="ten runs where the number in brackets is smaller, and a search. Random splits "
        "are made as the papers make theirs, but are not theirs.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
