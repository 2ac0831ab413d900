"""The worker processes of one launch on this machine: started, watched, and ended in every case.

They are children of this process and of nothing else: no agent, no store, no port.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SHUTDOWN_S = 5.0
"""How long workers that are told to end may take before they are killed."""
STACK_S = 0.5
"""How long a worker may take to write its stack."""
POLL_S = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class End:
    """How one worker process ended."""

    rank: int
    status: int
    """The exit status; a signal's number, negative, if it was one."""
    at_s: float
    """Wall clock when it was noticed, seconds since 1970."""


class Crew:
    """Processes of `python -m bnsgcn.workers.worker FOLDER`, one for each of `environments`, by rank.

    A context: when it is left, no process is left.
    """

    def __init__(
        self, folder: Path, environments: Sequence[Mapping[str, str]], *, relayed: bool = False
    ) -> None:
        """With `relayed`, `relay` prints what the workers print."""
        self._folder, self._environments = folder, environments
        self._said = (folder / "said.txt").open("a+b") if relayed else None
        self._told = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ends: dict[int, End] = {}

    def __enter__(self) -> Crew:
        words = [sys.executable, "-m", "bnsgcn.workers.worker", str(self._folder)]
        try:
            for environment in self._environments:
                started = subprocess.Popen(
                    words,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=self._said,
                    stderr=self._said,
                )
                self._processes.append(started)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.relay()
        if self._said is not None:
            self._said.close()

    def relay(self) -> None:
        """Print what the workers have printed since, where this process's standard output is not theirs."""
        if self._said is None:
            return
        whole = os.pread(self._said.fileno(), 1 << 24, self._told)
        whole = whole[: whole.rfind(b"\n") + 1]
        self._told += len(whole)
        if whole:
            print(whole.decode(errors="replace"), end="", flush=True)

    def ends(self) -> list[End]:
        """How each process ended that has ended until now."""
        for rank, process in enumerate(self._processes):
            status = process.poll()
            if status is not None and rank not in self._ends:
                self._ends[rank] = End(rank=rank, status=status, at_s=time.time())
        return list(self._ends.values())

    def running(self) -> list[int]:
        """Ranks whose process has not ended."""
        self.ends()
        return [rank for rank in range(len(self._processes)) if rank not in self._ends]

    def stopped(self) -> list[int]:
        """Ranks whose process a signal has stopped."""
        ours = {process.pid for process in self._processes}
        return sorted(rank for rank, pid in stopped_workers(os.getpid()).items() if pid in ours)

    def stacks(self) -> dict[int, str]:
        """Where the running ranks are, as tracebacks; empty for one that has not begun or does not say."""
        paths = {rank: self._folder / f"rank_{rank}.stack" for rank in self.running()}
        for rank, path in paths.items():
            if path.exists():  # the worker listens
                self._processes[rank].send_signal(signal.SIGUSR1)
        time.sleep(STACK_S if paths else 0.0)
        return {rank: path.read_text() if path.exists() else "" for rank, path in paths.items()}

    def _end(self) -> None:
        """End all that still run, first by words, then by force."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
                process.send_signal(signal.SIGCONT)  # a stopped process hears nothing else
        deadline = time.monotonic() + SHUTDOWN_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def stopped_workers(parent: int) -> dict[int, int]:
    """Ranks, with their process, of those workers of `parent` that a signal has stopped (Linux)."""
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            state, starter = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "T" and int(starter) == parent:
                names = (folder / "environ").read_bytes().split(b"\0")
                found |= {int(name[5:]): int(folder.name) for name in names if name.startswith(b"RANK=")}
    return found
