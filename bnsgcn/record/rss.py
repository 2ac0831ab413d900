"""Memory of this process."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_rss_bytes() -> int:
    """Largest resident set of this process since it started, in bytes.

    Linux's VmHWM counts from exec; getrusage's figure, used elsewhere, may be inherited from the parent.
    """
    return _status("VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rss_bytes() -> int:
    """Resident set of this process now, in bytes; where the system does not tell, its largest so far."""
    return _status("VmRSS:") or peak_rss_bytes()


def _status(name: str) -> int:
    """An entry of Linux's /proc/self/status in bytes, 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
