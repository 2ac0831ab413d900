"""Kills a rank, the launcher or all at some moment, resumes, and compares with a run left alone."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path

import psutil

from tests.campaign import runs
from tests.campaign.driver import Process, Result, started

KILLS = 4
"""Of one run, before it may end."""
END_S = 60.0


class Kills:
    """See the module."""

    name = "kills"
    promise = "resumed, a run ends bitwise as one that was left alone, with one line for every epoch"

    def run(self, case: int, folder: Path) -> Result:
        """A run killed up to four times."""
        chance = random.Random(case)
        setting = sorted(runs.SETTINGS)[case % len(runs.SETTINGS)]
        expected, run_dir, result = runs.reference(setting), folder / "run", Result(tried=0)
        for _ in range(KILLS):
            if self._killed(run_dir, setting, chance, result):
                result.tried += 1
        resume = ("--resume",) if (run_dir / "config.json").exists() else ()
        with started(*runs.train(run_dir, setting, *resume)) as process:
            ended = process.finish(END_S * 2)
        where = f"case {case} ({setting})"
        if result.expect(ended is not None and ended[0] == 0, f"{where}: the last resume ended as {ended}"):
            wrong = runs.differences(runs.end_of(run_dir), expected)
            result.expect(not wrong, f"{where}: differs in {', '.join(wrong)}")
        return result

    def _killed(self, run_dir: Path, setting: str, chance: random.Random, result: Result) -> bool:
        """Start or resume, kill at a random epoch and moment; False when the run was faster."""
        resume = ("--resume",) if (run_dir / "config.json").exists() else ()
        done = _lines(run_dir)
        target = done + chance.randrange(0, max(1, runs.EPOCHS // 3))
        who = chance.choice(("rank 0", "rank 1", "launcher", "everything"))
        delay = chance.random() * 0.06
        with started(*runs.train(run_dir, setting, *resume)) as process:
            workers, from_start = process.both_workers(), chance.random() < 0.2
            if not workers or not (from_start or _reached(process, run_dir, target)):
                return False
            time.sleep(delay)
            if not _kill(process, workers, who):
                return False
            ended = process.finish(END_S)
            result.expect(ended is not None, f"{setting}: still there {END_S:g} s after {who} was killed")
            deadline = time.monotonic() + 60
            while process.family() and time.monotonic() < deadline:
                time.sleep(0.05)
            result.expect(not process.family(), f"{setting}: processes left after {who} was killed")
        return True


def _lines(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def _reached(process: Process, run_dir: Path, target: int) -> bool:
    """Wait until the run has written more than so many lines."""
    deadline = time.monotonic() + END_S
    while process.popen.poll() is None and time.monotonic() < deadline:
        if _lines(run_dir) > target:
            return True
        time.sleep(0.004)
    return False


def _kill(process: Process, workers: list[psutil.Process], who: str) -> bool:
    launcher = psutil.Process(process.popen.pid)
    if who.startswith("rank"):
        victims = [workers[int(who[-1])]]
    else:
        victims = [launcher] if who == "launcher" else [launcher, *workers]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
    return process.popen.poll() is None or process.popen.returncode < 0
