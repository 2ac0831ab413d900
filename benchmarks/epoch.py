"""Epoch time, its split and peak memory: ours with 1 and 2 workers beside DGL and PyG, interleaved.

    python -m benchmarks.epoch                                        both workloads, everybody, 5 rounds
    python -m benchmarks.epoch reddit-like --only dgl ours-2          a quick pair
    python -m benchmarks.epoch products-like --rounds 5 --epochs 1    a few minutes

All contestants are built first and stay; in a round each in turn computes a few epochs while the others
sleep. Ratios are taken round by round, ours over DGL's in the graph's own node order.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contestant, Rounds, interleave, python
from benchmarks.limit import limit_contestant
from benchmarks.measure import (
    Spread,
    machine,
    ratios,
    round_medians,
    table,
    write_record,
)
from benchmarks.ours import ours_contestant, workload_config
from benchmarks.pictures import epoch_picture, save
from benchmarks.workloads import Skip, cache_folder, workload_parts
from partition.store import open_part, read_manifest

CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the contestants are made from."""

    workload: str
    shared: Path | None


def peer(library: str, setting: Setting, *options: str) -> Contestant:
    """A peer in one process on all cores."""
    command = python("benchmarks.peers", library, setting.workload, "--turns", *options)
    name = library + ("-our-order" if "--order" in options else "")
    return Contestant(name, [command], [{"OMP_NUM_THREADS": str(CORES)}])


def part_order(setting: Setting) -> Path:
    """FILE.npy with the node order that our two parts have, one after the other."""
    folder = workload_parts(setting.workload, 2, setting.shared)
    path = cache_folder() / f"{folder.name}-order.npy"
    if not path.exists():
        parts = range(read_manifest(folder).parts)
        np.save(path, np.concatenate([open_part(folder, part, verify=False).node_ids for part in parts]))
    return path


def ours(name: str, workers: int, threads: int = 1, **changes: Any) -> Callable[[Setting], Contestant]:
    """One way to run ours."""

    def make(setting: Setting) -> Contestant:
        folder = workload_parts(setting.workload, workers, setting.shared)
        config = workload_config(setting.workload, threads=threads, **changes)
        return ours_contestant(name, folder, config, parts=workers, threads=threads)

    return make


CONTESTANTS: dict[str, Callable[[Setting], Contestant]] = {
    "dgl": lambda setting: peer("dgl", setting),
    "dgl-our-order": lambda setting: peer("dgl", setting, "--order", str(part_order(setting))),
    "pyg": lambda setting: peer("pyg", setting),
    "ours-1": ours("ours-1", 1, CORES),
    "ours-2": ours("ours-2", 2),
    "ours-2-p0.1": ours("ours-2-p0.1", 2, sampling_rate=0.1),
    "ours-2-pipeline": ours("ours-2-pipeline", 2, pipeline=True),
    "ours-2-p0.1-pipeline": ours("ours-2-p0.1-pipeline", 2, sampling_rate=0.1, pipeline=True),
    "ours-2-bf16": ours("ours-2-bf16", 2, amp="bf16"),
    "limit": lambda setting: limit_contestant(
        setting.workload, workload_parts(setting.workload, 2, setting.shared)
    ),
}
SPLIT = ("time/compute_s", "time/halo_wait_s", "time/reduce_s")
AIMS: dict[str, list[tuple[str, str, str, float]]] = {
    "reddit-like": [
        ("epoch", "ours-2", "dgl", 0.42),
        ("epoch", "ours-2-p0.1-pipeline", "dgl", 0.40),
        ("epoch", "ours-2-bf16", "dgl", 0.26),
    ],
    "products-like": [
        ("epoch", "ours-2", "dgl", 0.38),
        ("epoch", "ours-2-p0.1-pipeline", "dgl", 0.36),
        ("epoch", "ours-2-bf16", "dgl", 0.26),
    ],
}
AIMS_OF_ALL: list[tuple[str, str, str, float]] = [
    ("epoch", "ours-2", "limit", 1.15),
    ("peak memory", "ours-2", "dgl", 0.5),
    ("epoch", "ours-2-p0.1", "ours-2", 1.0),
    ("drawing's share of the epoch", "ours-2-p0.1", "", 0.03),
]
"""(what, of whom, over whom, at most)"""


def race(setting: Setting, names: list[str], rounds: int, epochs: int) -> dict[str, Any]:
    """Run all contestants of one workload: their rounds, what each said when ready, who could not start."""
    contestants: list[Contestant] = []
    skipped: dict[str, str] = {}
    try:
        for name in names:
            contestant = CONTESTANTS[name](setting)
            contestants.append(contestant)
            try:
                contestant.wait_ready()
            except LookupError as reason:
                contestants.pop().close()
                skipped[name] = str(reason)
        kept = interleave(contestants, rounds=rounds, epochs=epochs, warm_up=2)
    finally:
        for contestant in contestants:
            contestant.close()
    return {"rounds": kept, "ready": {one.name: one.ready for one in contestants}, "skipped": skipped}


def largest(answers: list[dict[str, Any]], key: str) -> float:
    """Largest value over a contestant's processes."""
    return max(float(answer.get(key, 0)) for answer in answers)


def rows_of(result: dict[str, Any]) -> list[list[str]]:
    """One row a contestant."""
    rounds: Rounds = result["rounds"]
    rows = []
    for name, measured in rounds.items():
        last = measured[-1][-1]
        memory = memory_of(result, name)
        least = largest(result["ready"][name], "least_rss_bytes")
        split = [
            f"{Spread.of(round_medians(measured, key)).median:.3f}" if key in last else "-" for key in SPLIT
        ]
        base = rounds.get("dgl")
        rows.append(
            [
                name,
                Spread.of(round_medians(measured)).show(3),
                ratios(measured, base).show(3) if base else "-",
                ratios(measured, rounds["limit"]).show(2) if "limit" in rounds else "-",
                *split,
                f"{memory / 1e9:.2f}" if name != "limit" else "-",
                f"{memory / memory_of(result, 'dgl'):.2f}" if base and name != "limit" else "-",
                f"{last['peak_rss_bytes'] / 1e9:.2f}" if name != "limit" else "-",
                f"{least / 1e9:.2f}" if least else "-",
                f"{memory / least:.2f}" if least else "-",
            ]
        )
    return rows


def memory_of(result: dict[str, Any], name: str) -> float:
    """Peak resident set of a contestant's larger process, loading included."""
    epochs = result["rounds"][name][-1]
    return max(epochs[-1]["peak_rss_bytes"], largest(result["ready"][name], "loading_peak_rss_bytes"))


def aims_of(workload: str, result: dict[str, Any]) -> list[list[str]]:
    """What should be reached, and what was, for the contestants that took part."""
    rounds: Rounds = result["rounds"]
    rows = []
    for what, whose, over, most in [*AIMS.get(workload, []), *AIMS_OF_ALL]:
        if not {whose, over or whose} <= rounds.keys():
            continue
        if what == "epoch":
            figure = ratios(rounds[whose], rounds[over])
        elif what == "peak memory":
            figure = Spread.of([memory_of(result, whose) / memory_of(result, over)])
        else:
            drawing = round_medians(rounds[whose], "time/draw_s")
            figure = Spread.of([a / b for a, b in zip(drawing, round_medians(rounds[whose]), strict=True)])
        name = f"{what} of {whose}" + (f" / {over}" if over else "")
        rows.append([name, f"<= {most:g}", figure.show(3), "yes" if figure.median <= most else "no"])
    return rows


HEADER = [
    "contestant",
    "epoch s",
    "/ DGL",
    "/ limit",
    "compute s",
    "halo wait s",
    "reduce s",
    "peak GB",
    "/ DGL's",
    "training only GB",
    "least GB",
    "peak / least",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", default=["reddit-like", "products-like"])
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="measured epochs of each contestant in a round")
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--record", default="epoch", help="name of the record")
    options = parser.parse_args()
    before, results = machine(), {}
    for workload in options.workload:
        print(f"{workload}: starting {', '.join(options.only)}", file=sys.stderr, flush=True)
        setting = Setting(workload, options.shared)
        results[workload] = race(setting, options.only, options.rounds, options.epochs)
    sections = []
    for workload, result in results.items():
        missing = "".join(f"\n\n{name} skipped: {reason}" for name, reason in result["skipped"].items())
        aims = table(["aim", "at most", "measured", "reached"], aims_of(workload, result))
        sections.append(f"## {workload}\n\n{aims}\n\n{table(HEADER, rows_of(result))}{missing}")
    write_record(
        options.record,
        claim="Seconds per epoch and peak memory of one model on one graph, contestants interleaved.",
        body="\n\n".join(sections),
        raw=results,
        does_not_show=f"learning (see scores.md), GPUs, several machines, more than {CORES} cores.",
        figure=save(epoch_picture(results)),
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
