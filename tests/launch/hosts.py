"""Network namespaces that stand for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.driver import Unable


@dataclasses.dataclass(frozen=True)
class Host:
    """A network namespace that stands for a machine."""

    name: str
    device: str
    address: str

    def call(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def cut(one: Host, other: Host) -> None:
    """Lose in silence whatever `one` sends to `other`."""
    words = ("neigh", "replace", other.address, "lladdr", "02:00:00:00:00:99", "dev", one.device)
    run(*one.call("ip", *words, "nud", "permanent"))


@contextlib.contextmanager
def joined_hosts() -> Iterator[tuple[Host, Host]]:
    """Two namespaces joined by a veth.

    Raises:
        Unable: There can be none here.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        raise Unable("two network namespaces need Linux, root and iproute2")
    mark = uuid.uuid4().hex[:6]
    hosts = tuple(Host(f"bnsgcn-{mark}-{i}", f"v{mark}{i}", f"10.213.77.{i + 1}") for i in range(2))
    made = subprocess.run(["ip", "netns", "add", hosts[0].name], check=False, capture_output=True)
    if made.returncode != 0:
        raise Unable(f"network namespaces are not allowed here: {made.stderr.decode().strip()}")
    try:
        run("ip", "netns", "add", hosts[1].name)
        run("ip", "link", "add", hosts[0].device, "type", "veth", "peer", "name", hosts[1].device)
        for host in hosts:
            names = Path("/etc/netns") / host.name  # ip netns exec shows what is here in /etc
            names.mkdir(parents=True)
            (names / "resolv.conf").write_text("options timeout:1 attempts:1\n")
            known = [f"{other.address} {other.name}" for other in hosts]
            (names / "hosts").write_text("\n".join(["127.0.0.1 localhost", *known, ""]))
            run("ip", "link", "set", host.device, "netns", host.name)
            run(*host.call("ip", "addr", "add", f"{host.address}/24", "dev", host.device))
            run(*host.call("ip", "link", "set", host.device, "up"))
            run(*host.call("ip", "link", "set", "lo", "up"))
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns") / host.name, ignore_errors=True)
