"""Copies and messages on streams of their own, awaited by events: the host goes on meanwhile.

The only file that knows CUDA's streams, events and pinned memory; the tests put a stand-in in its place that
counts what is copied and waited for, and copies as late as a device may.

    | stream   | work                                                                        |
    |----------|-----------------------------------------------------------------------------|
    | current  | what torch computes                                                         |
    | leaving  | rows are gathered, packed and sent, after all that the current one was given |
    | arriving | rows come in from pinned memory                                             |
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor


class Mark(Protocol):
    """A point in a stream's work."""

    def hold(self) -> None:
        """Let the current stream's further work come after it; the host does not wait."""

    def synchronize(self) -> None:
        """Have the host wait for it."""


class Streams(Protocol):
    """One instance a world, whose device it serves."""

    def leaving(self, *lent: Tensor | None) -> contextlib.AbstractContextManager[None]:
        """Inside, the leaving stream is the current one; it reads `lent`, which others may let go of."""
        ...

    def arriving(self, after: Mark) -> contextlib.AbstractContextManager[None]:
        """Inside, the arriving stream is the current one; its work comes after `after`."""
        ...

    def mark(self) -> Mark:
        """What the current stream was given so far."""
        ...

    def room_for(self, rows: Tensor) -> Tensor:
        """Host memory of the same shape and format that is copied to and from without the host's help."""
        ...

    def pinned(self, values: Tensor) -> Tensor:
        """Values of the host in such memory."""
        ...

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy between such memory and the device on the current stream."""
        ...

    def upload(self, values: Tensor) -> Tensor:
        """Values of the host on the device; the host does not wait."""
        ...


class _Event:
    """A mark of a CUDA stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event = torch.cuda.Event(blocking=True)  # a waiting thread leaves its core to the others
        self._event.record(torch.cuda.current_stream(device))

    def hold(self) -> None:
        """See Mark.hold."""
        torch.cuda.current_stream(self._device).wait_event(self._event)

    def synchronize(self) -> None:
        """See Mark.synchronize."""
        self._event.synchronize()


class CudaStreams:
    """Streams of a CUDA device.

    Pinned memory comes from torch's own cache, which hands a block out again when the copies that it was part
    of are done: a message is filled while the one before it is still being read.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._leaving, self._arriving = (torch.cuda.Stream(device, priority=-1) for _ in range(2))

    @contextlib.contextmanager
    def leaving(self, *lent: Tensor | None) -> Iterator[None]:
        """See Streams.leaving."""
        self._leaving.wait_stream(torch.cuda.current_stream(self._device))
        for tensor in lent:
            if tensor is not None:
                tensor.record_stream(self._leaving)
        with torch.cuda.stream(self._leaving):
            yield

    @contextlib.contextmanager
    def arriving(self, after: Mark) -> Iterator[None]:
        """See Streams.arriving."""
        with torch.cuda.stream(self._arriving):
            after.hold()
            yield

    def mark(self) -> Mark:
        """See Streams.mark."""
        return _Event(self._device)

    def room_for(self, rows: Tensor) -> Tensor:
        """See Streams.room_for."""
        return torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)

    def pinned(self, values: Tensor) -> Tensor:
        """See Streams.pinned."""
        return values.pin_memory()

    def copy(self, target: Tensor, source: Tensor) -> None:
        """See Streams.copy."""
        target.copy_(source, non_blocking=True)

    def upload(self, values: Tensor) -> Tensor:
        """See Streams.upload."""
        return self.pinned(values).to(self._device, non_blocking=True)


def streams_of(device: torch.device) -> Streams | None:
    """The streams of a CUDA device; a CPU needs none. Before its first product."""
    if device.type != "cuda":
        return None
    # Products then are the same every time, although there are several streams.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return CudaStreams(device)
