"""Memory stays flat over hundreds of epochs, and the ranks' weights stay bitwise equal.

    python -m benchmarks.memory                       300 epochs of every setting on the small workload
    python -m benchmarks.memory reddit-like --epochs 60

Two workers; after every epoch each says its resident set and a digest of its weights.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, table, write_record
from benchmarks.ours import ours_contestant, workload_config
from benchmarks.pictures import memory_picture, save
from benchmarks.workloads import Skip, workload_parts

SMOOTH: dict[str, Any] = {"smooth_features": True, "smooth_gradients": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "p=0.1": {"sampling_rate": 0.1},
    "pipeline": {"pipeline": True},
    "cache p=0.1": {"sampling_rate": 0.1, "halo_cache": True},
    "p=0.1, pipeline, smoothed, int8": {
        "sampling_rate": 0.1,
        "pipeline": True,
        "wire_dtype": "int8",
        **SMOOTH,
    },
}
SETTLED_AFTER = 100
"""Epochs until allocations have settled."""


def follow(workload: str, folder: Path, changes: dict[str, Any], epochs: int) -> list[dict[str, Any]]:
    """Each epoch's answer of the slower worker, with both workers' answers inside."""
    config = workload_config(workload, threads=1, **changes)
    contestant = ours_contestant("ours", folder, config, parts=2, threads=1, options=["--watch"])
    try:
        contestant.wait_ready()
        return [contestant.step() for _ in range(epochs)]
    finally:
        contestant.close()


def settled_after(epochs: int) -> int:
    return min(SETTLED_AFTER, epochs // 3)


def growth_bytes(sizes: list[float]) -> float:
    """Growth of the resident set after it has settled: median of the last tenth over that of the first."""
    settled = sizes[settled_after(len(sizes)) :]
    tenth = max(1, len(settled) // 10)
    return statistics.median(settled[-tenth:]) - statistics.median(settled[:tenth])


def largest_rss(epoch: dict[str, Any]) -> float:
    return max(answer["rss_bytes"] for answer in epoch["processes"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="?", default="small")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    folder = workload_parts(options.workload, 2, options.shared)
    rows, raw = [], {}
    for name, changes in SETTINGS.items():
        epochs = follow(options.workload, folder, changes, options.epochs)
        sizes = [largest_rss(epoch) for epoch in epochs]
        unequal = sum(len({answer["weights"] for answer in epoch["processes"]}) > 1 for epoch in epochs)
        growth = growth_bytes(sizes)
        rows.append([name, f"{sizes[-1] / 1e6:.1f}", f"{growth / 1e6:+.2f}", f"{unequal} of {len(epochs)}"])
        raw[name] = {"rss_bytes": sizes, "growth_bytes": growth, "epochs_with_unequal_weights": unequal}
        print(rows[-1], flush=True)
    header = [
        "setting",
        "resident MB",
        f"growth MB after epoch {settled_after(options.epochs)}",
        "epochs with unequal weights",
    ]
    write_record(
        "memory",
        claim="Memory does not grow with the epochs; the ranks hold bitwise equal weights after each.",
        body=f"{options.workload}, 2 workers, {options.epochs} epochs\n\n" + table(header, rows),
        raw=raw,
        does_not_show="runs with evaluation and checkpoints in between, and CUDA memory.",
        figure=save(memory_picture(raw, settled_after(options.epochs))),
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
