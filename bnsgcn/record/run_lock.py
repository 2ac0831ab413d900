"""One process at a time writes into a run folder.

The lock is the kernel's (flock on RUN/.lock), so that it goes with its process, however that ends. Where a
file system has no such locks, the host and the process that stand in the file have to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
import weakref
from pathlib import Path

from partition.errors import UserError

LOCK_NAME = ".lock"
PATIENCE_S = 2.0
"""How long a holder may take to go: a process that was killed lives on for a moment."""


class RunLock:
    """The right to write into one folder; let go by `release`, with this object, or with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK_NAME
        self._letting_go: weakref.finalize[[int, int], RunLock] | None = None

    def acquire(self) -> None:
        """Take the lock; where this object has it already nothing changes.

        Raises:
            UserError: Another process has it; names its host and number.
            OSError: The folder cannot be written.
        """
        if self._is_held():
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._wait(fd, fcntl.LOCK_EX)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._letting_go = weakref.finalize(self, _let_go, fd, os.getpid())

    def check(self) -> None:
        """Raise the UserError of `acquire` without taking the lock."""
        if self._is_held():
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._wait(fd, fcntl.LOCK_SH)
            finally:
                os.close(fd)

    def in_use(self) -> bool:
        """Whether another process has the lock now."""
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _other_holder(fd, fcntl.LOCK_SH) is not None
            finally:
                os.close(fd)
        return False

    def release(self) -> None:
        """Let go."""
        if self._letting_go is not None:
            self._letting_go()

    def _is_held(self) -> bool:
        return self._letting_go is not None and self._letting_go.alive

    def _wait(self, fd: int, kind: int) -> None:
        patient_until = time.monotonic() + PATIENCE_S
        while (holder := _other_holder(fd, kind)) is not None:
            if time.monotonic() > patient_until:
                raise UserError(
                    f"--run-dir {self._folder} is in use by {holder}; wait for it, end it, or name a new "
                    f"folder (if it has ended: remove {self._path})"
                )
            time.sleep(0.05)


def _other_holder(fd: int, kind: int) -> str | None:
    """Who keeps us from a lock of this kind; None when we have it now."""
    host, _, number = os.pread(fd, 300, 0).decode(errors="replace").strip().partition(" ")
    known = bool(host) and number.isdecimal()
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"process {number} on {host}" if known else "another process"
    except OSError:  # this file system has no locks
        if known and not (host == socket.gethostname() and _gone(int(number))):
            return f"process {number} on {host}"
    return None


def _gone(process: int) -> bool:
    if process == os.getpid():  # the number of one that has ended was given to us
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _let_go(fd: int, process: int) -> None:
    if os.getpid() == process:  # a child made by fork holds a copy
        os.ftruncate(fd, 0)
    os.close(fd)
