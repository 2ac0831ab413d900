"""What this machine has: cores and memory, and how many compute threads make sense on it."""

from __future__ import annotations

import os

from partition.errors import UserError

THREADS_PER_CORE = 4
"""More threads than this many times the cores only take memory and turns from each other."""
WORKERS_PER_CORE = 64
"""More than this many take the machine with them before their first epoch."""


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_threads() -> int:
    """The most compute threads that a worker may have here."""
    return THREADS_PER_CORE * core_count()


def check_threads(threads: int) -> None:
    """UserError when --threads is more than this machine can use."""
    if threads > most_threads():
        raise UserError(
            f"--threads is {threads}, this machine has {core_count()} cores; use at most {most_threads()}, "
            f"or leave it out"
        )


def check_workers(parts: int) -> None:
    """UserError when this machine cannot run a worker a part."""
    most = WORKERS_PER_CORE * core_count()
    if parts > most:
        raise UserError(
            f"{parts} parts need as many workers, this machine has {core_count()} cores; run at most {most} "
            f"here: partition into fewer parts, or start torchrun on several machines"
        )


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
