"""Contestants that take turns: one computes while all others sleep, so that one run compares them fairly.

A contestant is one or more processes that have built everything and then wait on stdin. `step` makes every
process of a contestant run one epoch and answer with a line of JSON. The epoch's time is that of its
slowest process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.workloads import ROOT

READY_TIMEOUT_S = 900.0
EPOCH_TIMEOUT_S = 600.0


class Turns:
    """The contestant's own side: waits for commands, answers with JSON; libraries' prints go to stderr."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        self._begin_cpu_s = 0.0
        os.dup2(2, 1)

    def say(self, **values: Any) -> None:
        """One line of JSON to whoever drives this process."""
        print(json.dumps(values), file=self._answers, flush=True)

    def wait(self) -> bool:
        """True when an epoch is wanted, False when it is time to leave."""
        wanted = sys.stdin.readline().strip() == "step"
        self._begin_cpu_s = time.process_time()
        return wanted

    def cpu_s(self) -> float:
        """What the epoch took of the processor, all threads together."""
        return time.process_time() - self._begin_cpu_s


def peak_rss_bytes(field: str = "VmHWM") -> int:
    """Largest resident set of this process (VmHWM), or the present one (VmRSS)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def forget_peak() -> None:
    """Start VmHWM anew, so that the peak of training is seen apart from the peak of loading; best effort."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("cannot reset VmHWM here; peaks include loading", file=sys.stderr)


class Contestant:
    """Several processes under one name that step together."""

    def __init__(
        self, name: str, commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]
    ) -> None:
        self.name = name
        self.ready: list[dict[str, Any]] = []
        self._errors: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in commands]  # noqa: SIM115
        self._processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                text=True,
                bufsize=1,
                start_new_session=True,
            )
            for command, environment, errors in zip(commands, environments, self._errors, strict=True)
        ]

    def wait_ready(self) -> list[dict[str, Any]]:
        """Block until every process has built its model; what each said about itself."""
        self.ready = self._answers(READY_TIMEOUT_S)
        return self.ready

    def step(self) -> dict[str, Any]:
        """One epoch: the slowest process's answer, `processes` holds all of them."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("step\n")
            process.stdin.flush()
        answers = self._answers(EPOCH_TIMEOUT_S)
        slowest = max(answers, key=lambda answer: answer["epoch_s"])
        return {
            **slowest,
            "peak_rss_bytes": max(answer["peak_rss_bytes"] for answer in answers),
            "processes": answers,
        }

    def _answers(self, timeout_s: float) -> list[dict[str, Any]]:
        deadline = time.monotonic() + timeout_s
        return [self._answer(rank, deadline) for rank in range(len(self._processes))]

    def _answer(self, rank: int, deadline: float) -> dict[str, Any]:
        stream = self._processes[rank].stdout
        assert stream is not None
        readable, _, _ = select.select([stream], [], [], max(deadline - time.monotonic(), 0.0))
        line = stream.readline() if readable else ""
        if not line:
            reason = "ended" if readable else "did not answer in time"
            raise RuntimeError(f"{self.name}: process {rank} {reason}\n{self._tail(rank)}")
        answer = json.loads(line)
        if "skip" in answer:
            raise LookupError(answer["skip"])
        return answer

    def _tail(self, rank: int) -> str:
        self._errors[rank].seek(0)
        return self._errors[rank].read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        """Ask the processes to leave, then make them."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it may have left already
                process.stdin.write("quit\n")
                process.stdin.flush()
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        for errors in self._errors:
            errors.close()


Rounds = dict[str, list[list[dict[str, Any]]]]


def interleave(contestants: Sequence[Contestant], *, rounds: int, epochs: int, warm_up: int) -> Rounds:
    """Every contestant in turn: `epochs` epochs, `rounds` times; `warm_up` epochs each are thrown away first.

    Returns name -> rounds -> epochs. The first epoch of each turn refills caches that the others emptied,
    and is not kept.
    """
    kept: Rounds = {contestant.name: [] for contestant in contestants}
    for contestant in contestants:
        for _ in range(warm_up):
            contestant.step()
    for number in range(rounds):
        for contestant in contestants:
            contestant.step()
            kept[contestant.name].append([contestant.step() for _ in range(epochs)])
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return kept


def python(module: str, *options: str) -> list[str]:
    """Command line of one of our own modules."""
    return [sys.executable, "-m", module, *options]
