"""Score against bytes on the real graphs: sampling, staleness, smoothing, wire precision, and all together.

    python -m benchmarks.accuracy                  the whole study; goes on where an earlier call ended
    python -m benchmarks.accuracy --minutes 30     starts no run after so long, then reports what there is
    python -m benchmarks.accuracy --report         the table and the plot alone
    python -m benchmarks.accuracy --graphs minesweeper --cuts random:4 metis:4 --seeds 10 --record minesweeper
    python -m benchmarks.accuracy --record auto --methods exact auto --graphs amazon-computers ... coauthor-cs

minesweeper is a study of its own: its labels depend on neighbours many hops away, so that what is not
exchanged is missed, and its model has to reach them (GraphSAGE 8 x 64).

Every run trains GraphSAGE on the reduced graphs (see graphs.py) from its own seed of weights, dropout and
draws. One persistent group of workers per number of parts trains one configuration after the other. Every
finished run is a line of results/accuracy.jsonl, so that the study can be stopped anywhere: first every
method with one seed on two cuts, then a few methods with all seeds on all cuts, then the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.graphs import reduced_source
from benchmarks.measure import (
    RESULTS,
    add_run,
    machine,
    mean_and_deviation,
    read_runs,
    table,
    write_record,
)
from benchmarks.pictures import METHODS_TOGETHER, save, scores_picture
from benchmarks.workers import Group, Job
from benchmarks.workloads import Skip, parts_folder
from bnsgcn.config import TrainConfig

GRAPHS = ("amazon-computers", "facebook-pages", "debian12-deps", "debian12-tags")
CUTS = ("random:4", "metis:4", "metis:2", "metis:8")
"""A random cut has far more boundary than METIS leaves on such graphs: differences show there first."""
BASE = TrainConfig(
    model="sage",
    layers=3,
    hidden=32,
    dropout=0.2,
    lr=0.04,
    epochs=40,
    eval_every=5,
    precompute=True,
    threads=1,
    timeout_s=300.0,
    init="xavier",
)
"""Weights are drawn as in the runs that were recorded first."""
BASES = {
    "minesweeper": dataclasses.replace(
        BASE, layers=8, hidden=64, lr=0.003, epochs=200, eval_every=10, metric="roc-auc"
    )
}
"""Graphs that are trained otherwise. At lr 0.01 minesweeper's training stalls at 0.70, exact or not."""
TOLERANCE = 0.3
"""Points that auto is asked to stay within, its default."""
UNIFORM: dict[str, Any] = {"sampler": "uniform"}
SMOOTH: dict[str, Any] = {"smooth_features": True, "smooth_gradients": True}
METHODS: dict[str, dict[str, Any]] = {
    "exact": {},
    "p=0.5": {"sampling_rate": 0.5, **UNIFORM},
    "p=0.1": {"sampling_rate": 0.1, **UNIFORM},
    "p=0.01": {"sampling_rate": 0.01, **UNIFORM},
    "p=0": {"sampling_rate": 0.0},
    "importance p=0.5": {"sampling_rate": 0.5},
    "importance p=0.1": {"sampling_rate": 0.1},
    "importance p=0.01": {"sampling_rate": 0.01},
    "cache p=0.1": {"sampling_rate": 0.1, "halo_cache": True, **UNIFORM},
    "cache p=0.01": {"sampling_rate": 0.01, "halo_cache": True, **UNIFORM},
    "pipeline": {"pipeline": True},
    "pipeline, smoothed": {"pipeline": True, "smooth_window": 20.0, **SMOOTH},
    "pipeline, window 10": {"pipeline": True, "smooth_window": 10.0, **SMOOTH},
    "bf16": {"wire_dtype": "bf16"},
    "int8": {"wire_dtype": "int8"},
    "int4": {"wire_dtype": "int4"},
    "importance p=0.5, int8": {"sampling_rate": 0.5, "wire_dtype": "int8"},
    "exact, bf16 products": {"amp": "bf16"},
    "auto": {"policy": "auto", "aim": "bytes"},
    METHODS_TOGETHER: {
        "sampling_rate": 0.1,
        "pipeline": True,
        "wire_dtype": "int8",
        "smooth_window": 10.0,
        **SMOOTH,
    },
}
JUDGED = (
    "p=0.1",
    "importance p=0.1",
    "cache p=0.1",
    "int4",
    "pipeline",
    "pipeline, window 10",
    METHODS_TOGETHER,
)
"""Methods that should come within half a point of the exact score."""
HEADER = (
    "method",
    "test score %",
    "against exact, points",
    "MB per epoch",
    "epochs to 99 % of exact",
    "seeds",
)
CORE = ("exact", "p=0.1", "p=0.01", "p=0", "pipeline", "pipeline, window 10", METHODS_TOGETHER)
"""Methods that are run first, with every seed on every cut."""
Run = dict[str, Any]
Key = tuple[int, str, str, str]
"""(seed, cut, graph, method)"""


@dataclasses.dataclass(frozen=True)
class Study:
    """What is to be run, and where its lines go."""

    graphs: tuple[str, ...]
    cuts: tuple[str, ...]
    seeds: int
    file: Path
    shared: Path | None
    epochs: int | None = None
    lr: float | None = None
    methods: tuple[str, ...] = tuple(METHODS)

    def config(self, graph: str) -> TrainConfig:
        """What every method on `graph` starts from."""
        base = BASES.get(graph, BASE)
        return dataclasses.replace(base, epochs=self.epochs or base.epochs, lr=self.lr or base.lr)

    @property
    def core(self) -> tuple[str, ...]:
        """Methods that are run first."""
        return tuple(method for method in CORE if method in self.methods)

    def runs(self) -> list[Run]:
        """The lines that are there."""
        return read_runs(self.file)

    def wanted(self) -> Iterator[Key]:
        """What has not been run yet, in order."""
        there = {(run["seed"], run["cut"], run["graph"], run["method"]) for run in self.runs()}
        every = range(self.seeds)
        stages = (
            itertools.product((0,), self.cuts[:2], self.graphs, self.methods),
            itertools.product(every, self.cuts, self.graphs, self.core),
            itertools.product(every, self.cuts, self.graphs, self.methods),
        )
        for key in itertools.chain(*stages):
            if key not in there:
                there.add(key)
                yield key


def parse_cut(cut: str) -> tuple[str, int]:
    """`metis:4` -> ("metis", 4)."""
    partitioner, _, parts = cut.partition(":")
    return partitioner, int(parts)


def run_study(study: Study, deadline: float) -> None:
    """Run what is missing until `deadline` (of time.monotonic)."""
    study.file.parent.mkdir(parents=True, exist_ok=True)
    groups: dict[int, Group] = {}
    with contextlib.ExitStack() as stack:
        for seed, cut, graph, method in study.wanted():
            if time.monotonic() > deadline:
                print("out of time; call again to go on")
                return
            partitioner, parts = parse_cut(cut)
            if parts not in groups:
                groups[parts] = stack.enter_context(Group(parts))
            config = dataclasses.replace(study.config(graph), seed=seed, **METHODS[method])
            folder = parts_folder(reduced_source(graph, study.shared), parts, method=partitioner)
            summary = groups[parts].run(Job(parts_dir=str(folder), config=config.to_json()))
            line = {
                "graph": graph,
                "cut": cut,
                "method": method,
                "seed": seed,
                "metric": summary["metric"],
                "val": summary["val_score"],
                "test": summary["test_score"],
                "sent_bytes_per_epoch": summary["sent_bytes"] / summary["epochs"],
                "run_s": round(summary["run_s"], 2),
                "curve": [(epoch, round(val, 5)) for epoch, val, _ in summary["curve"]],
            }
            add_run(study.file, line)
            score = f"test {100 * line['test']:.2f} {line['run_s']} s"
            print(f"seed {seed} {cut:8} {graph:17} {method:32} {score}", flush=True)


def epochs_to(run: Run, target: float) -> float:
    """First evaluated epoch whose validation score is at least `target`; infinity where there is none."""
    return next((epoch for epoch, val in run["curve"] if val >= target), float("inf"))


def method_row(runs: list[Run], exact: list[Run], method: str) -> list[str]:
    """One row of the report: score, difference, bytes, epochs to 99 % of the exact score."""
    of_method = [run for run in runs if run["method"] == method]
    if not of_method or not exact:
        return [method, *["-"] * 5]
    tests = [100 * run["test"] for run in of_method]
    reference = {run["seed"]: run for run in exact}
    paired = [(run, reference[run["seed"]]) for run in of_method if run["seed"] in reference]
    pairs = [100 * (run["test"] - same_seed["test"]) for run, same_seed in paired]
    reached = [epochs_to(run, 0.99 * same_seed["val"]) for run, same_seed in paired]
    median = statistics.median_low(reached) if reached else float("inf")
    sent = statistics.fmean(run["sent_bytes_per_epoch"] for run in of_method)
    return [
        method,
        mean_and_deviation(tests),
        mean_and_deviation(pairs) if pairs else "-",
        f"{sent / 1e6:.3f}",
        "not reached" if median == float("inf") else f"{median:.0f}",
        str(len(of_method)),
    ]


def within_half_a_point(runs: list[Run], method: str) -> str:
    """How many of the (graph, cut) cells have a mean difference from exact of at least -0.5 point."""
    cells: dict[tuple[str, str], list[float]] = {}
    exact = {(r["graph"], r["cut"], r["seed"]): r["test"] for r in runs if r["method"] == "exact"}
    for run in runs:
        key = (run["graph"], run["cut"], run["seed"])
        if run["method"] == method and key in exact:
            cells.setdefault(key[:2], []).append(100 * (run["test"] - exact[key]))
    means = {cell: statistics.fmean(values) for cell, values in cells.items()}
    outside = [f"{graph} {cut} {mean:+.2f}" for (graph, cut), mean in means.items() if mean < -0.5]
    tail = f"; outside: {', '.join(outside)}" if outside else ""
    return f"{method}: {len(means) - len(outside)} of {len(means)} cells within 0.5 point of exact{tail}."


def verdict_on_auto(runs: list[Run]) -> str:
    """The cells that auto keeps within the tolerance, or one deviation of exact's seeds, and their bytes."""
    cells: dict[tuple[str, str], list[tuple[Run, Run]]] = {}
    exact = {(r["graph"], r["cut"], r["seed"]): r for r in runs if r["method"] == "exact"}
    for run in runs:
        same = exact.get((run["graph"], run["cut"], run["seed"]))
        if run["method"] == "auto" and same is not None:
            cells.setdefault((run["graph"], run["cut"]), []).append((run, same))
    rows = []
    for (graph, cut), pairs in sorted(cells.items()):
        lost = statistics.fmean(100 * (run["test"] - same["test"]) for run, same in pairs)
        tests = [100 * same["test"] for _, same in pairs]
        deviation = statistics.stdev(tests) if len(tests) > 1 else float("nan")
        shares = [run["sent_bytes_per_epoch"] / same["sent_bytes_per_epoch"] for run, same in pairs]
        share, most = statistics.fmean(shares), 0.25 if cut.startswith("random") else 0.1
        held = ["yes" if kept else "no" for kept in (lost >= -TOLERANCE, lost >= -deviation, share <= most)]
        held[1] = held[1] if len(tests) > 1 else "-"
        rows.append([graph, cut, f"{lost:+.2f}", f"{deviation:.2f}", f"{share:.3f}", *held, str(len(pairs))])
    within = sum(row[5] == "yes" for row in rows)
    header = ("graph", "cut", "points", "deviation of exact", "bytes / exact")
    header += (f"within {TOLERANCE}", "within a deviation", "bytes within 0.1, random 0.25", "seeds")
    said = f"auto: {within} of {len(rows)} cells within {TOLERANCE} point of exact."
    return f"{said}\n\n{table(header, rows)}"


def report(study: Study, before: dict[str, Any]) -> None:
    """Write the record of the runs that are there."""
    runs = study.runs()
    if not runs:
        raise Skip("no runs yet")
    graphs = [graph for graph in study.graphs if any(run["graph"] == graph for run in runs)]
    there = {run["method"] for run in runs}
    sections = [within_half_a_point(runs, method) for method in JUDGED if method in there]
    sections += [verdict_on_auto(runs)] if "auto" in there else []
    for graph in graphs:
        for cut in study.cuts:
            chosen = [run for run in runs if (run["graph"], run["cut"]) == (graph, cut)]
            if not chosen:
                continue
            exact = [run for run in chosen if run["method"] == "exact"]
            rows = [method_row(chosen, exact, method) for method in study.methods]
            metric = chosen[0]["metric"]
            sections.append(f"## {graph}, {cut}, {metric}\n\n" + table(HEADER, rows))
    base = study.config(graphs[0])
    write_record(
        study.file.stem,
        claim="Test score against bytes sent per epoch, for every way of exchanging less, on real graphs.",
        body="\n\n".join(sections),
        raw={
            "base": base.to_json(),
            "methods": METHODS,
            "runs": study.file.name,
            "number_of_runs": len(runs),
        },
        does_not_show=f"training beyond {base.epochs} epochs or at another lr than {base.lr:g}, wider "
        f"models (hidden {base.hidden}), whole bags of words (64 singular directions instead), graphs of "
        "other sizes; differences are paired by seed.",
        figure=save(scores_picture(runs, study.file.stem)),
        before=before,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS))
    parser.add_argument("--cuts", nargs="*", default=list(CUTS), metavar="METHOD:PARTS")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument(
        "--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD"
    )
    parser.add_argument("--record", default="accuracy", help="name of the record")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    study = Study(
        graphs=tuple(options.graphs),
        cuts=tuple(options.cuts),
        seeds=options.seeds,
        file=RESULTS / f"{options.record}.jsonl",
        shared=options.shared,
        epochs=options.epochs,
        lr=options.lr,
        methods=tuple(options.methods),
    )
    if not options.report:
        run_study(study, time.monotonic() + 60 * options.minutes)
    report(study, before)


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
