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
import contextlib
import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

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
from benchmarks.workloads import Skip, parts_folder, real_graphs
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


def run_all(options: argparse.Namespace, file: Path) -> None:
    """Run what is missing, a line each, until the time is up."""
    deadline = time.monotonic() + 60 * options.minutes
    there = {(run["case"], run["seed"], run["parts"]) for run in read_runs(file)}
    groups: dict[int, Group] = {}
    with contextlib.ExitStack() as stack:
        for seed, name, parts in itertools.product(range(options.seeds), options.cases, options.parts):
            if (name, seed, parts) in there or time.monotonic() > deadline:
                continue
            if parts not in groups:
                groups[parts] = stack.enter_context(Group(parts))
            case = CASES[name]
            folder = parts_folder(source_of(case, seed, options.shared), parts)
            config = case.config(seed)
            summary = groups[parts].run(Job(parts_dir=str(folder), config=config.to_json()))
            line = {
                "case": name,
                "seed": seed,
                "parts": parts,
                "metric": summary["metric"],
                "val": summary["val_score"],
                "test": summary["test_score"],
                "best_epoch": summary["best_epoch"],
                "run_s": round(summary["run_s"], 2),
                "config": config.to_json(),
            }
            add_run(file, line)
            print({key: value for key, value in line.items() if key != "config"}, flush=True)


def row_of(name: str, runs: list[dict[str, Any]], parts: list[int]) -> list[str]:
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--parts", nargs="*", type=int, default=[1])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so long")
    parser.add_argument("--report", action="store_true", help="the table alone")
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before, file = machine(), RESULTS / "tuned.jsonl"
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.report:
        run_all(options, file)
    runs = read_runs(file)
    if not runs:
        raise Skip("no runs yet")
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
