"""What all drivers share: a case, what came of it, and processes that are surely gone afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil

ROOT = Path(__file__).resolve().parents[2]
MARK = "BNSGCN_CAMPAIGN"
"""Environment variable by which the processes of a case are found."""


class Unable(Exception):
    """This machine cannot run the driver; says why."""


@dataclasses.dataclass
class Result:
    """What came of one case."""

    tried: int = 1
    """How often something was done to the program."""
    faults: list[str] = dataclasses.field(default_factory=list)
    """What was not as promised, a line each."""

    def expect(self, holds: object, what: str) -> bool:
        """Note a fault unless `holds`."""
        if not holds:
            self.faults.append(what)
        return bool(holds)


class Driver(Protocol):
    """Makes and judges cases."""

    name: str
    promise: str
    """What must hold after every case, in one sentence."""

    def run(self, case: int, folder: Path) -> Result:
        """Case number `case` in an empty folder of its own.

        Raises:
            Unable: This machine does not allow it.
        """
        ...


class Process:
    """A command in a process group of its own, found again by a mark that its children inherit."""

    def __init__(self, *command: str, prefix: tuple[str, ...] = (), **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.popen = subprocess.Popen(
            [*prefix, sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=os.environ | environment | {MARK: self.mark, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def family(self) -> list[psutil.Process]:
        """All living processes that carry the mark."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Those that have a rank, by rank."""
        ranked = []
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                rank = process.environ().get("RANK")
                if rank is not None:
                    ranked.append((int(rank), process))
        return [process for _, process in sorted(ranked, key=lambda pair: pair[0])]

    def both_workers(self) -> list[psutil.Process]:
        """Both, by rank, as soon as they are there; empty when that is never.

        To look for them takes longer than some epochs do, so whoever kills one knows it beforehand.
        """
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.popen.poll() is None:
            if len(found := self.workers()) == 2:
                return found
            time.sleep(0.01)
        return []

    def finish(self, timeout_s: float) -> tuple[int, str, str] | None:
        """(status, out, err) once it has ended; None when it had to be killed for being late."""
        try:
            out, err = self.popen.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
            return None
        return self.popen.returncode, out, err

    def end(self) -> None:
        """Kill whatever is left."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.communicate()


@contextlib.contextmanager
def started(*command: str, prefix: tuple[str, ...] = (), **environment: str) -> Iterator[Process]:
    """A process that is gone at the end, with all that it started."""
    process = Process(*command, prefix=prefix, **environment)
    try:
        yield process
    finally:
        process.end()


def one_line(err: str) -> bool:
    """Whether standard error holds one line of ours, without control characters."""
    lines = [line for line in err.split("\n") if line]
    return (
        len(lines) == 1
        and lines[0].startswith("bnsgcn: error: ")
        and all(character.isprintable() for character in lines[0])
    )
