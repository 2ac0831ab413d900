"""Twice the graph, twice the epoch: ours with 2 workers on a workload and on one of twice its nodes and arcs.

    python -m benchmarks.growth                       both workloads, exact, 5 rounds

Same degree, same feature width, twice the communities. Both sizes take turns in one run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, interleave
from benchmarks.measure import Spread, machine, ratios, round_medians, table, write_record
from benchmarks.ours import ours_contestant, workload_config
from benchmarks.workloads import Skip, workload_parts

MOST = 2.1
"""Largest ratio that still counts as linear."""


def race(workload: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of both sizes."""
    contestants: list[Contestant] = []
    try:
        for name in (workload, f"{workload}@2"):
            print(f"starting {name}", file=sys.stderr, flush=True)
            folder = workload_parts(name, 2, options.shared)
            config = workload_config(name, threads=1)
            contestants.append(ours_contestant(name, folder, config, parts=2, threads=1))
            contestants[-1].wait_ready()
        return interleave(contestants, rounds=options.rounds, epochs=options.epochs, warm_up=2)
    finally:
        for contestant in contestants:
            contestant.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", default=["reddit-like", "products-like"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before, raw, rows = machine(), {}, []
    for workload in options.workload:
        raw[workload] = race(workload, options)
        once, twice = raw[workload].values()
        seconds = [Spread.of(round_medians(rounds)).show(3) for rounds in (once, twice)]
        ratio = ratios(twice, once)
        rows.append([workload, *seconds, ratio.show(3), "yes" if ratio.median <= MOST else "no"])
    write_record(
        "growth",
        claim="An epoch on twice the nodes and arcs takes about twice as long.",
        body=table(["workload", "epoch s", "epoch s at twice the size", "ratio", f"<= {MOST}"], rows),
        raw=raw,
        does_not_show="growth beyond 2x, and with more workers.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
