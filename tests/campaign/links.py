"""Ranks that stop and links that are cut: everything ends within the timeout, and the run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.campaign import runs
from tests.campaign.driver import Process, Result, Unable, started

TIMEOUT_S = 8
GRACE_S = 12.0
"""How much longer than its timeout a command may take to end."""
PORT = 29471


class Links:
    """See the module."""

    name = "links"
    promise = "a stopped rank or a cut link ends the command within its timeout; resumed, it is bitwise"

    def run(self, case: int, folder: Path) -> Result:
        """One stopped rank (even numbers) or cut link (odd ones)."""
        chance, run_dir = random.Random(case), folder / "run"
        setting = sorted(runs.SETTINGS)[case // 2 % len(runs.SETTINGS)]
        result = Result()
        if case % 2 == 0:
            self._stopped(case, chance, run_dir, setting, result)
        else:
            self._cut(case, chance, run_dir, setting, result)
        with started(*runs.train(run_dir, setting, "--resume")) as process:
            ended = process.finish(120)
        where = f"case {case} ({setting})"
        if result.expect(ended is not None and ended[0] == 0, f"{where}: resumed, it ended as {ended}"):
            wrong = runs.differences(runs.end_of(run_dir), runs.reference(setting))
            result.expect(not wrong, f"{where}: differs in {', '.join(wrong)}")
        return result

    def _stopped(self, case: int, chance: random.Random, run_dir: Path, setting: str, result: Result) -> None:
        more = ("--timeout-s", str(TIMEOUT_S))
        with started(*runs.train(run_dir, setting, *more)) as process:
            if not wait_for_lines(run_dir, chance.randrange(1, 10), [process]):
                result.faults.append(f"case {case}: no epoch was trained")
                return
            rank = chance.randrange(2)
            process.workers()[rank].send_signal(signal.SIGSTOP)
            begin = time.monotonic()
            ended = process.finish(TIMEOUT_S + GRACE_S + 30)
            spent = time.monotonic() - begin
            where = f"case {case}: rank {rank} stopped"
            result.expect(spent < TIMEOUT_S + GRACE_S, f"{where}: ended after {spent:.0f} s")
            if result.expect(ended is not None, f"{where}: did not end"):
                assert ended is not None
                result.expect(ended[0] == 1, f"{where}: status {ended[0]}")
                result.expect(f"rank {rank}" in ended[2], f"{where}: said {ended[2][-200:]!r}")

    def _cut(self, case: int, chance: random.Random, run_dir: Path, setting: str, result: Result) -> None:
        with two_hosts() as hosts:
            processes = [self._machine(host, index, run_dir, setting) for index, host in enumerate(hosts)]
            try:
                if not wait_for_lines(run_dir, chance.randrange(1, 10), processes):
                    said = [process.popen.poll() for process in processes]
                    result.faults.append(f"case {case}: no epoch was trained over the link: {said}")
                    return
                subprocess.run(
                    ["ip", "-n", hosts[0][0], "link", "set", hosts[0][1], "down"],
                    check=True,
                    capture_output=True,
                )
                begin = time.monotonic()
                ended = [process.finish(TIMEOUT_S + GRACE_S + 60) for process in processes]
                spent = time.monotonic() - begin
                where = f"case {case}: link cut"
                result.expect(None not in ended, f"{where}: an agent did not end")
                result.expect(spent < TIMEOUT_S + GRACE_S + 10, f"{where}: ended after {spent:.0f} s")
                result.expect(all(end and end[0] != 0 for end in ended), f"{where}: an agent ended well")
            finally:
                for process in processes:
                    process.end()

    @staticmethod
    def _machine(host: tuple[str, str, str], index: int, run_dir: Path, setting: str) -> Process:
        name, device, address = host
        torchrun = (
            *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "0"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"10.213.78.1:{PORT}", "--rdzv-id", "campaign"),
            *("--rdzv-conf", f"is_host={1 - index}", "--local-addr", address, "-m", "launch.train"),
        )
        options = runs.train(run_dir, setting, "--timeout-s", str(TIMEOUT_S))[3:]
        return Process(*torchrun, *options, prefix=("ip", "netns", "exec", name), GLOO_SOCKET_IFNAME=device)


def wait_for_lines(run_dir: Path, lines: int, processes: list[Process]) -> bool:
    """Whether the run wrote so many lines before it ended."""
    path, deadline = run_dir / "metrics.jsonl", time.monotonic() + 90
    while time.monotonic() < deadline and all(process.popen.poll() is None for process in processes):
        if path.exists() and path.read_text().count("\n") >= lines and processes[0].workers():
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def two_hosts() -> Iterator[list[tuple[str, str, str]]]:
    """(namespace, device, address) of two machines joined by a link; gone afterwards."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        raise Unable("two network namespaces need Linux, root and iproute2")
    mark = uuid.uuid4().hex[:6]
    hosts = [(f"bnsgcn-{mark}-{side}", f"c{mark}{side}", f"10.213.78.{side + 1}") for side in range(2)]

    def run(*words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
        if done.returncode:
            raise Unable(f"network namespaces are not allowed here: {done.stderr.strip()}")

    try:
        for name, _, _ in hosts:
            run("netns", "add", name)
        run("link", "add", hosts[0][1], "type", "veth", "peer", "name", hosts[1][1])
        for name, device, address in hosts:
            run("link", "set", device, "netns", name)
            run("-n", name, "addr", "add", f"{address}/24", "dev", device)
            run("-n", name, "link", "set", device, "up")
            run("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name, _, _ in hosts:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def alive(process: psutil.Process) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
