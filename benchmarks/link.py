"""Epoch time over a link of limited bandwidth: two network namespaces joined by veth, `tc tbf` on both ends.

    python -m benchmarks.link                                both workloads, 1 and 10 Gbit/s and no limit
    python -m benchmarks.link reddit-like --mbit 1000        one link
    python -m benchmarks.link reddit-like --mbit 25 100 1000/100 --rounds 1 --epochs 1 --record link_slow

Each namespace stands for a machine with one worker (see netns.py). All settings are built first and stay; the
speed of the link is changed between stages, and in a round each setting in turn computes a few epochs while
the others sleep. Over a link of less than 1 Gbit/s, in some direction, vanilla partition-parallel training
(see vanilla.py) takes part, and `--policy auto`, which starts anew for every link and is given some epochs to
find its way.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Rounds
from benchmarks.measure import (
    Spread,
    machine,
    ratios,
    round_medians,
    table,
    write_record,
)
from benchmarks.netns import ADDRESSES, UNLIMITED, Link, Speed, link
from benchmarks.ours import environments, ours_contestant, workload_config
from benchmarks.pictures import link_picture, save
from benchmarks.workloads import Skip, workload_parts

SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "p=0.1": {"sampling_rate": 0.1},
    "pipeline": {"pipeline": True},
    "p=0.1 + pipeline": {"sampling_rate": 0.1, "pipeline": True},
    "p=0": {"sampling_rate": 0.0},
}
ONE_WAY, BOTH_WAYS = "vanilla, one way at a time", "vanilla, both ways at once"
SLOW_SETTINGS: dict[str, dict[str, Any]] = {
    ONE_WAY: {},
    BOTH_WAYS: {},
    "exact": {},
    "int4 + pipeline": {"wire_dtype": "int4", "pipeline": True},
    "p=0.1 + pipeline": {"sampling_rate": 0.1, "pipeline": True},
    "p=0.1 + int8 + pipeline": {"sampling_rate": 0.1, "wire_dtype": "int8", "pipeline": True},
    "p=0": {"sampling_rate": 0.0},
}
AUTO = "auto"
AUTO_SETTLES = 12
"""Epochs in which it has measured, and decided twice."""
LONG_S = 10.0
"""A turn lasts so long, or one epoch; one that takes longer needs none before it to refill caches."""
VANILLA = {ONE_WAY: ("--vanilla", "one-way"), BOTH_WAYS: ("--vanilla", "both-ways")}
SLOW_MBIT = 1000.0
PAPERS = {"BNS-GCN": 16.2, "PipeGCN": 28.5}
"""Times the throughput of vanilla training, at most, by their abstracts; on GPUs, over other links."""


def auto_over(between: Link, workload: str, folder: Path, epochs: int) -> list[dict[str, Any]]:
    """Epochs of --policy auto over the link as it is, after it has found its way."""
    (contestant,) = contestants_over(between, workload, folder, {AUTO: {"policy": "auto"}})
    try:
        for _ in range(AUTO_SETTLES):
            contestant.step()
        return turn(contestant, epochs, stale=True)
    finally:
        contestant.close()


def settings_of(speeds: Sequence[Speed]) -> dict[str, dict[str, Any]]:
    """What takes part."""
    slowest = min(min(speed.there, speed.back) for speed in speeds)
    return SLOW_SETTINGS if slowest < SLOW_MBIT else SETTINGS


def contestants_over(
    between: Link, workload: str, folder: Path, settings: dict[str, dict[str, Any]]
) -> list[Contestant]:
    """Every setting with one worker in each namespace."""
    found = []
    for name, changes in settings.items():
        around = environments(2, address=ADDRESSES[0], threads=1)
        for environment, device in zip(around, between.devices, strict=True):
            environment |= {"GLOO_SOCKET_IFNAME": device, "LOCAL_RANK": "0"}
        prefixes = [["ip", "netns", "exec", namespace] for namespace in between.names]
        config = workload_config(workload, threads=1, backend="gloo", **changes)
        found.append(
            ours_contestant(
                name,
                folder,
                config,
                parts=2,
                threads=1,
                prefixes=prefixes,
                environment=around,
                options=VANILLA.get(name, ()),
            )
        )
        found[-1].wait_ready()
    return found


def turn(contestant: Contestant, epochs: int, *, stale: bool) -> list[dict[str, Any]]:
    """The epochs of one turn, without the first, which refills caches that the others emptied.

    What a stale setting has posted before has arrived while the others had their turns.
    """
    first = contestant.step()
    kept = [first] if first["epoch_s"] > LONG_S and not stale else []
    while len(kept) < epochs and sum(epoch["epoch_s"] for epoch in kept) < LONG_S:
        kept.append(contestant.step())
    return kept


def transfer_s(rounds: list[list[dict[str, Any]]], speed: Speed) -> float:
    """Seconds that the slower direction needs for its payload alone."""
    first, second = (answer["comm/sent_bytes"] for answer in rounds[-1][-1]["processes"])
    return speed.transfer_s((first, second))


def rows_of(measured: Rounds, unlimited: Rounds, speed: Speed) -> list[list[str]]:
    """One row a setting; p = 0 stands for the computation, the payload over the rate for the transfer."""
    rows = []
    compute = statistics.median(round_medians(measured["p=0"]))
    for name, rounds in measured.items():
        alone = transfer_s(rounds, speed)
        longest = max(compute, alone)
        median = statistics.median(round_medians(rounds))
        waited = Spread.of(round_medians(rounds, "time/halo_wait_s")).median
        rows.append(
            [
                name,
                Spread.of(round_medians(rounds)).show(3),
                ratios(rounds, measured["p=0"]).show(3),
                ratios(rounds, unlimited[name]).show(3),
                f"{waited:.3f}",
                f"{alone:.3f}",
                f"{median / longest:.3f}",
            ]
        )
    return rows


def aims_of(measured: Rounds, unlimited: Rounds, speed: Speed) -> list[list[str]]:
    """What a slow link should leave of the epoch, and what it does.

    The pipeline is held against the longer of transfer and its own computation, which is more than that of
    p=0: it sums over halo arcs, and its bytes go through the kernel. The row without an aim shows p=0.
    """
    pipelined, both = measured["pipeline"], measured["p=0.1 + pipeline"]
    alone, seconds = transfer_s(pipelined, speed), round_medians(pipelined)

    def over(compute: list[float]) -> Spread:
        return Spread.of([s / max(c, alone) for s, c in zip(seconds, compute, strict=True)])

    own = over(round_medians(unlimited["pipeline"], "time/compute_s"))
    figures: list[tuple[str, float | None, Spread]] = [
        ("pipeline / max(its computation without limit, transfer)", 1.1, own),
        ("pipeline / max(p=0, transfer)", None, over(round_medians(measured["p=0"]))),
        ("p=0.1 + pipeline / p=0", 1.1, ratios(both, measured["p=0"])),
        ("p=0.1 + pipeline / the same without limit", 1.05, ratios(both, unlimited["p=0.1 + pipeline"])),
    ]
    return [
        [name, "-", f.show(3), "-"]
        if most is None
        else [name, f"<= {most}", f.show(3), "yes" if f.median <= most else "no"]
        for name, most, f in figures
    ]


VANILLA_HEADER = ["setting", "times vanilla, one way", "times vanilla, both ways", "epoch / p=0"]
HEADER = [
    "setting",
    "epoch s",
    "/ p=0",
    "/ no limit",
    "halo wait s",
    "transfer alone s",
    "/ max(p=0, transfer)",
]


def measure(workload: str, options: argparse.Namespace) -> dict[str, Rounds]:
    """Name of the link -> setting -> rounds. In a round every link has its turn, so links compare too."""
    folder = workload_parts(workload, 2, options.shared)
    speeds = [*options.mbit, UNLIMITED]
    settings = settings_of(speeds)
    results: dict[str, Rounds] = {speed.name: {name: [] for name in settings} for speed in speeds}
    with link() as between:
        contestants: list[Contestant] = []
        try:
            contestants = contestants_over(between, workload, folder, settings)
            for contestant in contestants:
                contestant.step(), contestant.step()
            for number in range(options.rounds):
                print(f"{workload}: round {number + 1} over every link", file=sys.stderr, flush=True)
                for speed in speeds:
                    between.limit(speed)
                    of_link = results[speed.name]
                    for one in contestants:
                        stale = bool(settings[one.name].get("pipeline"))
                        of_link[one.name].append(turn(one, options.epochs, stale=stale))
                    if ONE_WAY in settings:
                        found = auto_over(between, workload, folder, options.epochs)
                        of_link.setdefault(AUTO, []).append(found)
            return results
        finally:
            for contestant in contestants:
                contestant.close()


def against_vanilla(measured: Rounds) -> list[list[str]]:
    """How many epochs a setting computes in one of either vanilla kind, beside no communication at all."""
    rows = []
    for name, rounds in measured.items():
        if name not in VANILLA:
            times = [ratios(measured[kind], rounds) for kind in (ONE_WAY, BOTH_WAYS)]
            rows.append([name, *(each.show(1) for each in times), ratios(rounds, measured["p=0"]).show(2)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", default=["reddit-like", "products-like"])
    parser.add_argument("--mbit", nargs="*", type=Speed.of, default=[Speed.of("1000"), Speed.of("10000")])
    parser.add_argument("--record", default="link", help="name of the record")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    results = {workload: measure(workload, options) for workload in options.workload}
    gains = " and ".join(f"{gain} x ({name})" for name, gain in PAPERS.items())
    sections = []
    for workload, links in results.items():
        for speed in (*options.mbit, UNLIMITED):
            measured = links[speed.name]
            rows = rows_of(measured, links["no limit"], speed)
            parts = [f"## {workload}, {speed.name}"]
            if ONE_WAY in measured:
                parts.append(table(VANILLA_HEADER, against_vanilla(measured)))
            elif speed.name == "1 Gbit/s":
                aims = aims_of(measured, links["no limit"], speed)
                parts.append(table(["aim", "at most", "measured", "reached"], aims))
            sections.append("\n\n".join([*parts, table(HEADER, rows)]))
    write_record(
        options.record,
        claim="Epoch time of two workers over a link of limited bandwidth, settings interleaved.",
        body="\n\n".join(sections),
        raw=results,
        does_not_show="latency of real networks, more than two machines, nccl. p=0 sends no rows (gradients "
        "of weights are still reduced) and stands for the epoch without communication. The papers' largest "
        f"gains over vanilla training, on GPUs: {gains}.",
        figure=save(link_picture(results)) if options.record == "link" else None,
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
