"""JSON files, and lines: written whole or not at all, and read as an object or refused in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partition.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: There is no such file, or it cannot be read.
        UserError: It is not JSON, is nested too deeply, or is not an object.
    """
    try:
        found = json.loads(path.read_bytes())
    except RecursionError:
        raise UserError(f"{path.name} is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path.name} holds {type(found).__name__} where an object is expected")
    return found


def write_object(path: Path, values: Mapping[str, Any]) -> None:
    """Write indented JSON, whole or not at all; numbers that are not finite become null.

    Raises:
        OSError: It cannot be written; what was there before is unchanged.
    """
    write_whole(path, (json.dumps(finite(values), indent=1) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in the place of `path` once it is safe on disk; after an OSError nothing of it is left."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def append_whole(path: Path, line: bytes) -> None:
    """Add a line, whole or not at all.

    Raises:
        OSError: The disk is full, say; the file is as it was.
    """
    with path.open("ab", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.truncate(file.fileno(), end)
            raise OSError(error.errno, error.strerror, str(path)) from error


def finite(value: Any) -> Any:
    """The same value with null for infinities and NaN, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
