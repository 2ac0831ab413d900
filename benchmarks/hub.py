"""Machines on one switch: a network namespace for each worker, joined by a bridge, links limited by `tc`.

Both directions of a machine's link have the rate. Needs root and the `ip` and `tc` commands; what is made is
removed at the end, also after an error or Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.workloads import Skip

NO_LIMIT = float("inf")


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise Skip(f"`{' '.join(command)}` failed: {finished.stderr.strip()}")


class Hub:
    """The namespaces of `machines` workers, and the one with the bridge."""

    def __init__(self, machines: int) -> None:
        number = os.getpid() % 100000
        self.centre = f"bnsgcn-{number}-hub"
        self.names = [f"bnsgcn-{number}-{machine}" for machine in range(machines)]
        self.devices = [f"bns{number}m{machine}" for machine in range(machines)]
        self._ports = [f"bns{number}h{machine}" for machine in range(machines)]
        self.addresses = [f"10.213.8.{machine + 1}" for machine in range(machines)]

    def up(self) -> None:
        """Make everything; Skip where the machine does not allow it."""
        _run("ip", "netns", "add", self.centre)
        _run("ip", "-n", self.centre, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self.centre, "link", "set", "bridge", "up")
        for name, device, port, address in zip(
            self.names, self.devices, self._ports, self.addresses, strict=True
        ):
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", device, "type", "veth", "peer", "name", port)
            _run("ip", "link", "set", device, "netns", name)
            _run("ip", "link", "set", port, "netns", self.centre)
            _run("ip", "-n", self.centre, "link", "set", port, "master", "bridge", "up")
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")

    def limit(self, bits_per_s: float) -> None:
        """Set the rate of every link, both ways; infinity removes the limit."""
        ends = [*zip(self.names, self.devices, strict=True), *((self.centre, port) for port in self._ports)]
        for name, device in ends:
            if bits_per_s == NO_LIMIT:
                subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", device, "root"], capture_output=True)
                continue
            burst = f"{max(16, int(bits_per_s / 8 / 1000 / 1024))}kb"  # a millisecond: a link has no bucket
            shape = ("tbf", "rate", f"{int(bits_per_s / 1e6)}mbit", "burst", burst, "latency", "200ms")
            _run("tc", "-n", name, "qdisc", "replace", "dev", device, "root", *shape)

    def down(self) -> None:
        """Remove the namespaces, and with them the devices."""
        for name in [*self.names, self.centre]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextlib.contextmanager
def hub(machines: int) -> Iterator[Hub]:
    """Machines that are gone afterwards, whatever happens."""
    if os.geteuid() != 0:
        raise Skip("network namespaces need root")
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            raise Skip(f"no `{tool}` command here; it comes with iproute2")
    made = Hub(machines)
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        made.up()
        yield made
    finally:
        made.down()
        signal.signal(signal.SIGTERM, previous)
