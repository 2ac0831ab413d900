"""Writing what is either whole or not there, on disks that may be full.

Everything is written by plain writes, or into space that was reserved before: a full disk then is an error,
where touching a memory map of a sparse file would end the process with SIGBUS.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from partition.errors import UserError
from partition.stopping import stoppable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a quota used up, a file larger than this process may write."""
BLOCK_BYTES = 1 << 24
ABANDONED_S = 60.0
"""A folder without a lock that is older than this was left by a process that was killed."""


def check_free(out: Path) -> None:
    """UserError where nothing can be written to the new name `out`."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out}: exists already; name another --out, or remove it first")
    parent = out.parent
    if parent.exists() and not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UserError(f"{parent}: cannot be written to; name another --out")


@contextlib.contextmanager
def said_when_full(where: Path, what: str, way_out: str) -> Iterator[None]:
    """A disk that is too full for `what` below `where`, as a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        there = next(folder for folder in (where, *where.absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(there).free
        raise UserError(
            f"{where}: {error.strerror}: {what}, but {free / 1e6:,.1f} MB are free; {way_out}"
        ) from error


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that is named `out` at the end; after a failure or a signal nothing is left.

    Raises:
        UserError: there is something of that name, it cannot be written to, or the disk is full.
        Stopped: the process was told to end.
    """
    check_free(out)
    fresh = [parent for parent in out.parents if not parent.exists()]
    unfinished = out.with_name(f".{out.name}.unfinished-{os.getpid()}-{os.urandom(3).hex()}")
    _remove_abandoned(out)
    with stoppable() as stop:
        try:
            unfinished.mkdir(parents=True)
            with _locked(unfinished):
                yield unfinished
            check_free(out)
            unfinished.rename(out)
        except BaseException as error:
            stop.later = True
            taken = sum(path.stat().st_size for path in unfinished.rglob("*"))
            shutil.rmtree(unfinished, ignore_errors=True)
            with contextlib.suppress(OSError):
                for parent in fresh:
                    parent.rmdir()
            so_far = f"{taken / 1e6:,.1f} MB were written and there is more"
            with said_when_full(out, so_far, "make room or write elsewhere"):
                raise error


def _remove_abandoned(out: Path) -> None:
    """Remove what processes that were killed have left of earlier attempts at `out`."""
    for folder in out.parent.glob(f".{glob.escape(out.name)}.unfinished-*"):
        with contextlib.suppress(OSError), _locked(folder) as mine:
            if mine and time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock on a folder, which ends with this process; whether it is held."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # somebody else has it, or this file system has no locks
        return False
    return True


def reserve(path: Path, size: int) -> None:
    """Lengthen a file to `size` bytes, all of which have their place on the disk.

    Raises:
        OSError: they have not.
    """
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            _fill(file.fileno(), size)


def _fill(descriptor: int, size: int) -> None:
    """Append zeros up to `size` bytes: for systems that cannot reserve."""
    written = os.lseek(descriptor, 0, os.SEEK_END)
    while written < size:
        written += os.write(descriptor, bytes(min(BLOCK_BYTES, size - written)))
