"""Ranks that stop and links that are cut: everything ends within the timeout, and the run goes on."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from launch.agent import AGENT_S
from tests.campaign import runs
from tests.campaign.driver import Process, Result, started
from tests.launch.hosts import Host, cut, joined_hosts, run

TIMEOUT_S = 8
GRACE_S = 25.0
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
            lines, rank = chance.randrange(1, 10), chance.randrange(2)
            victims = process.both_workers()
            if not victims or not wait_for_lines(run_dir, lines, [process]):
                result.faults.append(f"case {case}: no epoch was trained")
                return
            victims[rank].send_signal(signal.SIGSTOP)
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
        where, lines = f"case {case}: link cut", chance.randrange(1, 10)
        with joined_hosts() as hosts:
            processes = [self._machine(hosts, index, run_dir, setting) for index in range(2)]
            try:
                if not wait_for_lines(run_dir, lines, processes):
                    said = [process.finish(1) for process in processes]
                    result.faults.append(f"{where}: no epoch was trained over it: {said}")
                    return
                self._part(hosts, silently=chance.random() < 0.5)
                begin = time.monotonic()
                ended = [process.finish(TIMEOUT_S + AGENT_S + GRACE_S + 60) for process in processes]
                spent = time.monotonic() - begin
            finally:
                for process in processes:
                    process.end()
        if all(end is not None and end[0] == 0 for end in ended):
            result.tried = 0  # both were done before the link was cut
            return
        result.expect(spent < TIMEOUT_S + AGENT_S + GRACE_S, f"{where}: ended after {spent:.0f} s")
        for index, end in enumerate(ended):
            if result.expect(end is not None, f"{where}: the agent of machine {index} did not end"):
                assert end is not None
                status, _, said = end
                result.expect(status == 1, f"{where}: machine {index} ended with status {status}")
                own = all(line.startswith("bnsgcn: error: ") for line in said.splitlines())
                result.expect(said and own, f"{where}: machine {index} said {said[-300:]!r}")

    @staticmethod
    def _part(hosts: tuple[Host, Host], *, silently: bool) -> None:
        """Cut the link: packets are lost without a word, or the device of one side goes down."""
        if silently:
            cut(*hosts)
            cut(*hosts[::-1])
        else:
            run("ip", "-n", hosts[0].name, "link", "set", hosts[0].device, "down")

    @staticmethod
    def _machine(hosts: tuple[Host, Host], index: int, run_dir: Path, setting: str) -> Process:
        agent = (
            *("-m", "launch.agent", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "0"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].address}:{PORT}"),
            *("--rdzv-id", "campaign", "--rdzv-conf", f"is_host={1 - index}"),
            *("--local-addr", hosts[index].address, "-m", "launch.train"),
        )
        options = runs.train(run_dir, setting, "--timeout-s", str(TIMEOUT_S))[3:]
        prefix = tuple(hosts[index].call())
        return Process(*agent, *options, prefix=prefix, GLOO_SOCKET_IFNAME=hosts[index].device)


def wait_for_lines(run_dir: Path, lines: int, processes: list[Process]) -> bool:
    """Whether the run wrote so many lines before it ended."""
    path, deadline = run_dir / "metrics.jsonl", time.monotonic() + 90
    while time.monotonic() < deadline and all(process.popen.poll() is None for process in processes):
        if path.exists() and path.read_text().count("\n") >= lines:
            return True
        time.sleep(0.01)
    return False
