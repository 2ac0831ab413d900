"""Epoch time over a link of limited bandwidth: two network namespaces joined by veth, `tc tbf` on both ends.

    python -m benchmarks.link                                both workloads, 1 and 10 Gbit/s and no limit
    python -m benchmarks.link reddit-like --gbit 1           one link

Each namespace stands for a machine with one worker. All settings are built first and stay; the rate of the
link is changed between stages, and in a round each setting in turn computes a few epochs while the others
sleep. Needs root and the `ip` and `tc` commands; whatever it makes is removed at the end, also after an
error or Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Rounds, interleave
from benchmarks.measure import (
    Spread,
    machine,
    ratios,
    round_medians,
    table,
    write_record,
)
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
ADDRESSES = ("10.213.7.1", "10.213.7.2")


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise Skip(f"`{' '.join(command)}` failed: {finished.stderr.strip()}")


class Link:
    """Two namespaces and the veth pair between them."""

    def __init__(self) -> None:
        self.names = [f"bnsgcn-{os.getpid()}-{side}" for side in "ab"]
        self.devices = [f"bns{os.getpid() % 100000}{side}" for side in "ab"]

    def up(self) -> None:
        """Make everything; Skip where the machine does not allow it."""
        for name in self.names:
            _run("ip", "netns", "add", name)
        first, second = self.devices
        _run("ip", "link", "add", first, "type", "veth", "peer", "name", second)
        for name, device, address in zip(self.names, self.devices, ADDRESSES, strict=True):
            _run("ip", "link", "set", device, "netns", name)
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")

    def limit(self, gbit: float) -> None:
        """Set the rate of both directions; infinity removes the limit."""
        for name, device in zip(self.names, self.devices, strict=True):
            if gbit == float("inf"):
                subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", device, "root"], capture_output=True)
                continue
            burst = f"{max(256, int(gbit * 1e9 / 8 / 250 / 1024))}kb"
            shape = ("tbf", "rate", f"{int(gbit * 1000)}mbit", "burst", burst, "latency", "50ms")
            _run("tc", "-n", name, "qdisc", "replace", "dev", device, "root", *shape)

    def down(self) -> None:
        """Remove the namespaces, and with them the devices."""
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", self.devices[0]], capture_output=True)


@contextlib.contextmanager
def link() -> Iterator[Link]:
    """A link that is gone afterwards, whatever happens."""
    if os.geteuid() != 0:
        raise Skip("network namespaces need root")
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            raise Skip(f"no `{tool}` command here; it comes with iproute2")
    made = Link()
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        made.up()
        yield made
    finally:
        made.down()
        signal.signal(signal.SIGTERM, previous)


def contestants_over(between: Link, workload: str, folder: Path) -> list[Contestant]:
    """Every setting with one worker in each namespace."""
    found = []
    for name, changes in SETTINGS.items():
        around = environments(2, address=ADDRESSES[0], threads=1)
        for environment, device in zip(around, between.devices, strict=True):
            environment |= {"GLOO_SOCKET_IFNAME": device, "LOCAL_RANK": "0"}
        prefixes = [["ip", "netns", "exec", namespace] for namespace in between.names]
        config = workload_config(workload, threads=1, backend="gloo", **changes)
        found.append(
            ours_contestant(name, folder, config, parts=2, threads=1, prefixes=prefixes, environment=around)
        )
        found[-1].wait_ready()
    return found


def transfer_s(rounds: list[list[dict[str, Any]]], gbit: float) -> float:
    """Seconds that the busier direction needs for its payload alone."""
    sent = max(answer["comm/sent_bytes"] for answer in rounds[-1][-1]["processes"])
    return 8 * sent / (gbit * 1e9)


def rows_of(measured: Rounds, unlimited: Rounds, gbit: float) -> list[list[str]]:
    """One row a setting; p = 0 stands for the computation, the payload over the rate for the transfer."""
    rows = []
    compute = statistics.median(round_medians(measured["p=0"]))
    for name, rounds in measured.items():
        alone = transfer_s(rounds, gbit)
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


def aims_of(measured: Rounds, unlimited: Rounds, gbit: float) -> list[list[str]]:
    """What a slow link should leave of the epoch, and what it does.

    The pipeline is held against the longer of transfer and its own computation, which is more than that of
    p=0: it sums over halo arcs, and its bytes go through the kernel. The row without an aim shows p=0.
    """
    pipelined, both = measured["pipeline"], measured["p=0.1 + pipeline"]
    alone, seconds = transfer_s(pipelined, gbit), round_medians(pipelined)

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
    """Name of the link -> setting -> rounds. In a round every rate has its turn, so rates compare too."""
    folder = workload_parts(workload, 2, options.shared)
    rates = [*options.gbit, float("inf")]
    results: dict[str, Rounds] = {name_of(gbit): {name: [] for name in SETTINGS} for gbit in rates}
    with link() as between:
        contestants: list[Contestant] = []
        try:
            contestants = contestants_over(between, workload, folder)
            interleave(contestants, rounds=0, epochs=0, warm_up=2)
            for number in range(options.rounds):
                print(f"{workload}: round {number + 1} over every rate", file=sys.stderr, flush=True)
                for gbit in rates:
                    between.limit(gbit)
                    kept = interleave(contestants, rounds=1, epochs=options.epochs, warm_up=0)
                    for name, rounds in kept.items():
                        results[name_of(gbit)][name] += rounds
            return results
        finally:
            for contestant in contestants:
                contestant.close()


def name_of(gbit: float) -> str:
    return "no limit" if gbit == float("inf") else f"{gbit:g} Gbit/s"


def rate_of(name: str) -> float:
    return float(name.split()[0]) if name != "no limit" else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", default=["reddit-like", "products-like"])
    parser.add_argument("--gbit", nargs="*", type=float, default=[1.0, 10.0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    results = {workload: measure(workload, options) for workload in options.workload}
    sections = []
    for workload, links in results.items():
        for name, measured in links.items():
            rows = rows_of(measured, links["no limit"], rate_of(name))
            parts = [f"## {workload}, {name}"]
            if name == "1 Gbit/s":
                aims = aims_of(measured, links["no limit"], rate_of(name))
                parts.append(table(["aim", "at most", "measured", "reached"], aims))
            sections.append("\n\n".join([*parts, table(HEADER, rows)]))
    write_record(
        "link",
        claim="Epoch time of two workers over a link of limited bandwidth, settings interleaved.",
        body="\n\n".join(sections),
        raw=results,
        does_not_show="latency of real networks, more than two machines, nccl. p=0 sends no rows (gradients "
        "of weights are still reduced) and stands for the epoch without communication.",
        figure=save(link_picture(results)),
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
