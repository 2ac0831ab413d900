"""Where the time of an epoch goes: named spans, measured on the device that does the work.

On CPU a span is wall clock. On CUDA it is the time between two events of the current stream, read when
the epoch is over, so that measuring never makes the host wait in the middle of an epoch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch


class Spans:
    """Seconds spent under each name since the last `collect`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the body takes to `name`."""
        if self._device.type == "cuda":
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            yield
            last.record()
            self._events.append((name, first, last))
        else:
            start = time.perf_counter()
            yield
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def collect(self) -> dict[str, float]:
        """Seconds by name; starts anew."""
        if self._events:
            torch.cuda.synchronize(self._device)
        for name, first, last in self._events:
            self._seconds[name] = self._seconds.get(name, 0.0) + first.elapsed_time(last) / 1000
        seconds, self._seconds, self._events = self._seconds, {}, []
        return seconds


class ProfiledSpans(Spans):
    """Spans that torch's profiler sees too, while one is at work."""

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the body takes to `name`, and mark it in the trace."""
        with torch.profiler.record_function(name), super().measure(name):
            yield
