"""Two network namespaces joined by veth, each standing for a machine, and the speed of the link between them.

Needs root and the `ip` and `tc` commands; whatever is made is removed at the end, also after an error or
Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.workloads import Skip

ADDRESSES = ("10.213.7.1", "10.213.7.2")
NO_LIMIT = float("inf")
_LEAST_BURST_KB = 256


@dataclasses.dataclass(frozen=True)
class Speed:
    """What a link carries, Mbit/s: from the first machine to the second, and back."""

    there: float
    back: float

    @classmethod
    def of(cls, text: str) -> Speed:
        """`100` both ways, `1000/100` there and back."""
        there, _, back = text.partition("/")
        return cls(float(there), float(back or there))

    @property
    def name(self) -> str:
        """`1 Gbit/s`, `100 Mbit/s`, `1 Gbit/s there, 100 Mbit/s back`, `no limit`."""
        if self.there == self.back:
            return _shown(self.there)
        return f"{_shown(self.there)} there, {_shown(self.back)} back"

    def transfer_s(self, sent_bytes: tuple[float, float]) -> float:
        """Seconds that the slower direction needs for its payload alone."""
        directions = zip(sent_bytes, (self.there, self.back), strict=True)
        return max(8 * sent / (1e6 * mbit) for sent, mbit in directions)


UNLIMITED = Speed(NO_LIMIT, NO_LIMIT)


def _shown(mbit: float) -> str:
    if mbit == NO_LIMIT:
        return "no limit"
    return f"{mbit / 1000:g} Gbit/s" if mbit >= 1000 else f"{mbit:g} Mbit/s"


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

    def limit(self, speed: Speed) -> None:
        """Set the speed of both directions; each end shapes what it sends."""
        for name, device, mbit in zip(self.names, self.devices, (speed.there, speed.back), strict=True):
            if mbit == NO_LIMIT:
                subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", device, "root"], capture_output=True)
                continue
            burst = f"{max(_LEAST_BURST_KB, int(mbit * 1e6 / 8 / 250 / 1024))}kb"
            shape = ("tbf", "rate", f"{int(mbit * 1000)}kbit", "burst", burst, "latency", "50ms")
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
