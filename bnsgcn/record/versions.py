"""Which programs a run was made with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

NAMED = ("bnsgcn", "torch", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, of the system, and of the packages that decide what is computed."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in NAMED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a checkout that is not installed
            found[name] = importlib.metadata.version(name)
    return found
