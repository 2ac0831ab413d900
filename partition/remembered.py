"""Which parts were found sound before: opening them again then costs their hashing alone.

A line for each in a file of the user's cache; where it cannot be written, parts are checked every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

PLACE = "~/.cache/bnsgcn/checked"
MOST_BYTES = 1 << 20
"""A longer file is begun anew."""


def key_of(*facts: object) -> bytes:
    """A line that stands for what was checked, and by what."""
    return hashlib.sha256(repr(facts).encode()).hexdigest().encode() + b"\n"


def is_remembered(key: bytes) -> bool:
    """Whether `remember` was called with this key, by this user."""
    with contextlib.suppress(OSError):
        with Path(PLACE).expanduser().open("rb") as file:
            status = os.fstat(file.fileno())
            own = status.st_uid == os.getuid() and not status.st_mode & 0o022
            return own and key in file.read(2 * MOST_BYTES).splitlines(keepends=True)
    return False


def remember(key: bytes) -> None:
    """Keep a key; whole lines, also when several workers do so at a time."""
    place = Path(PLACE).expanduser()
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if place.exists() and place.stat().st_size > MOST_BYTES:
            place.unlink()
        descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, key)
        finally:
            os.close(descriptor)
