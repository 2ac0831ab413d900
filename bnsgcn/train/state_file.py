"""The state of a run, or a rank's share of it, in one file: hashed while it is written, and read back.

Read with `weights_only=True`: nothing from disk is ever unpickled into code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

CHUNK_BYTES = 1 << 22

State = dict[str, Any]
"""Tensors and plain values, in dicts and lists."""


def write_state(path: Path, state: State) -> str:
    """Write a state and read it back; its SHA-256.

    Raises:
        OSError: It cannot be written or reads back differently.
    """
    try:
        with path.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(state, hashing)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # torch.save hides a failed write behind its own error
        cause = error.__context__ or error.__cause__
        if isinstance(cause, OSError):
            raise cause from None
        raise OSError(f"{path} could not be written: {str(error).splitlines()[0]}") from error
    digest = hashing.sha256.hexdigest()
    with path.open("rb") as file:
        if sha256_of(file) != digest:
            raise OSError(f"{path} reads back differently from what was written; check the disk")
    return digest


def read_state(file: BinaryIO) -> State:
    """What `write_state` wrote."""
    state: State = torch.load(file, map_location="cpu", weights_only=True)
    return state


def sha256_of(file: BinaryIO) -> str:
    """Of a whole file, which stands at its beginning before and after."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def sync_folder(path: Path) -> None:
    """Make a rename durable where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class _HashingFile:
    """Passes bytes on to a file and remembers their SHA-256; torch.save writes front to back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        self.sha256.update(chunk)
        return self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()
