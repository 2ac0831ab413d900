"""What a section of benchmarks.gpu is given and gives back, and how it takes times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Spread
from benchmarks.workloads import Skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    quick: bool
    tune: bool = False
    parts: Path | None = None
    """A folder with folders of parts that were made elsewhere."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """What one section found."""

    title: str
    body: str
    """Markdown."""
    raw: Any
    not_run: list[str] = dataclasses.field(default_factory=list)
    """What could not run here, and why."""
    failed: list[str] = dataclasses.field(default_factory=list)
    """What should have run."""


def cuda() -> torch.device:
    """The GPU; Skip where there is none."""
    if not torch.cuda.is_available():
        raise Skip("there is no CUDA device here: not run on a device")
    return torch.device("cuda")


def device_ms(compute: Callable[[], Any], rounds: int) -> Spread:
    """Milliseconds on the device, by its own clock, after two runs that do not count."""
    times = []
    for turn in range(rounds + 2):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        compute()
        last.record()
        last.synchronize()
        if turn > 1:
            times.append(first.elapsed_time(last))
    return Spread.of(times)
