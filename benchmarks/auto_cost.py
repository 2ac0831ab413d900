"""What `--policy auto` costs where nothing is to be gained: its epochs beside exact ones, on one machine.

    python -m benchmarks.auto_cost                       both workloads, two workers of one thread
    python -m benchmarks.auto_cost products-like --rounds 5

Both take turns, in pairs of rounds. Auto's epochs include what it measures and decides, and are those of its
first looks, which measure most; the sum over all epochs is what counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, interleave
from benchmarks.measure import Spread, machine, ratios, round_medians, table, write_record
from benchmarks.ours import ours_contestant, workload_config
from benchmarks.workloads import Skip, workload_parts

MOST = 1.02
HEADER = (
    "workload",
    "exact s",
    "auto s",
    "auto / exact, by round",
    "of all epochs",
    f"<= {MOST}",
    "bytes / exact",
)


def measure(workload: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of both policies."""
    folder = workload_parts(workload, 2, options.shared)
    contestants: list[Contestant] = []
    try:
        for name, changes in (("exact", {}), ("auto", {"policy": "auto"})):
            config = workload_config(workload, threads=1, backend="gloo", **changes)
            contestants.append(ours_contestant(name, folder, config, parts=2, threads=1))
            contestants[-1].wait_ready()
        return interleave(contestants, rounds=options.rounds, epochs=options.epochs, warm_up=1)
    finally:
        for contestant in contestants:
            contestant.close()


def row_of(workload: str, rounds: dict[str, Any]) -> list[str]:
    """One row of the table."""
    spent = {
        name: sum(epoch["epoch_s"] for kept in found for epoch in kept) for name, found in rounds.items()
    }
    ratio = spent["auto"] / spent["exact"]
    sent = {name: found[-1][-1]["comm/sent_bytes"] for name, found in rounds.items()}
    return [
        workload,
        *(Spread.of(round_medians(rounds[name])).show(3) for name in ("exact", "auto")),
        ratios(rounds["auto"], rounds["exact"]).show(3),
        f"{ratio:.3f}",
        "yes" if ratio <= MOST else "no",
        f"{sent['auto'] / sent['exact']:.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", default=["reddit-like", "products-like"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    results = {workload: measure(workload, options) for workload in options.workload}
    write_record(
        "auto_cost",
        claim="An epoch under --policy auto beside an exact one where transfers hide, on one machine.",
        body=table(HEADER, [row_of(workload, rounds) for workload, rounds in results.items()]),
        raw=results,
        does_not_show="graphs whose epochs take milliseconds, more workers than cores.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
