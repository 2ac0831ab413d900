"""A stand-in for a device's streams on CPU: copies happen as late as they may, and everything is counted.

What is computed happens at once, as on any CPU. A copy to or from a room happens when somebody waits for a
mark behind it on its stream, and rooms hold garbage until then: who forgets to wait sends or reads garbage.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

CURRENT, LEAVING, ARRIVING = "current", "leaving", "arriving"
GARBAGE = 0x55


class LateMark:
    """See bnsgcn.device.streams.Mark."""

    def __init__(self, owner: LateStreams, stream: str) -> None:
        self._owner, self._stream, self._number = owner, stream, owner.given[stream]

    def hold(self) -> None:
        self._owner.count("holds")
        self._owner.run(self._stream, self._number)

    def synchronize(self) -> None:
        self._owner.count("host waits")
        self._owner.run(self._stream, self._number)


class LateStreams:
    """See bnsgcn.device.streams.Streams.

    counts: of the main thread and of others apart, as "holds" and "courier holds".   given: copies so far.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[int, Callable[[], object]]]] = {
            name: deque() for name in (CURRENT, LEAVING, ARRIVING)
        }
        self._stream, self._lock, self._main = CURRENT, threading.RLock(), threading.get_ident()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what if threading.get_ident() == self._main else f"courier {what}"] += 1

    def run(self, stream: str, number: int) -> None:
        """Do what a stream was given up to a mark."""
        with self._lock:
            waiting = self._waiting[stream]
            while waiting and waiting[0][0] <= number:
                waiting.popleft()[1]()

    @contextlib.contextmanager
    def _on(self, stream: str) -> Iterator[None]:
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    def leaving(self, *lent: Tensor | None) -> contextlib.AbstractContextManager[None]:
        return self._on(LEAVING)

    @contextlib.contextmanager
    def arriving(self, after: LateMark) -> Iterator[None]:
        with self._on(ARRIVING):
            yield

    def mark(self) -> LateMark:
        return LateMark(self, self._stream)

    def room_for(self, rows: Tensor) -> Tensor:
        nbytes = rows.numel() * rows.element_size()
        return torch.full((nbytes,), GARBAGE, dtype=torch.uint8).view(rows.dtype).view(rows.shape)

    def pinned(self, values: Tensor) -> Tensor:
        return values.clone()

    def copy(self, target: Tensor, source: Tensor) -> None:
        self.count("copies")
        stream = self._stream
        self.given[stream] += 1
        with self._lock:
            self._waiting[stream].append((self.given[stream], lambda: target.copy_(source)))
        # What the current stream copies to the device is there for all that is computed next on it.
        if stream == CURRENT and not self._is_room(target):
            self.run(CURRENT, self.given[CURRENT])

    def _is_room(self, target: Tensor) -> bool:
        return target.numel() > 0 and bool((target.contiguous().view(-1).view(torch.uint8) == GARBAGE).all())

    def upload(self, values: Tensor) -> Tensor:
        self.count("uploads")
        return values
