"""Rows of a device between workers by a transport that knows host memory alone, such as gloo.

    device -> pinned room -> network -> pinned room of the peer -> its device

Rows go in pieces: one is copied while the one before it travels, at both ends. The host waits for nothing
when rows leave: a thread of its own (the courier) waits for the copies and sends. When they are to be there,
it waits for the network, as it must; what is computed next waits for the last copy on the device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from torch import Tensor

from bnsgcn.device.streams import Mark, Streams

PIECE_BYTES = 1 << 22
TAGS = 1 << 16
"""More than there are messages on their way at any time."""


class Work(Protocol):
    """Something under way."""

    def wait(self) -> Any:
        """Block until it is done."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A part of a message's way, with its wait."""

    wait: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some rows for a peer or from it; both ends give it the same tag."""

    peer: int
    rows: slice
    tag: int


Transfer = Callable[[Tensor, int, int], Work]
"""Starts a message of host memory: (rows, peer, tag)."""


def pieces_of(stretches: Sequence[tuple[int, int, int]], row_bytes: int, tag: int) -> list[Piece]:
    """Stretches (peer, first row, end) in pieces of some megabytes."""
    step = max(1, PIECE_BYTES // max(1, row_bytes))
    return [
        Piece(peer, slice(start, min(start + step, end)), tag + TAGS * number)
        for peer, first, end in stretches
        for number, start in enumerate(range(first, end, step))
    ]


class Staging:
    """The messages of one world."""

    def __init__(self, streams: Streams, receive: Transfer, send: Transfer) -> None:
        self._streams, self._receive, self._send = streams, receive, send
        self._courier = ThreadPoolExecutor(1, "courier")

    def post(
        self, received: Tensor, sent: Tensor, receives: Sequence[Piece], sends: Sequence[Piece]
    ) -> list[Work]:
        """Start a message from `sent` [S, ...] into `received` [R, ...]; what is to be waited for, in order.

        Both belong to the current stream, or the current stream comes after what made them.
        """
        streams = self._streams
        inbox, outbox = streams.room_for(received), streams.room_for(sent)
        begun = streams.mark()
        announced = [self._receive(inbox[piece.rows], piece.peer, piece.tag) for piece in receives]
        copied = []
        for piece in sends:
            streams.copy(outbox[piece.rows], sent[piece.rows])
            copied.append(streams.mark())
        leaving = self._courier.submit(self._deliver, outbox, sends, copied) if sends else None
        steps: list[Work] = [
            Step(functools.partial(self._take, work, received[piece.rows], inbox[piece.rows], begun))
            for work, piece in zip(announced, receives, strict=True)
        ]
        steps.append(Step(functools.partial(self._settle, begun)))
        return steps if leaving is None else [*steps, Step(functools.partial(_gone, leaving))]

    def _deliver(self, outbox: Tensor, sends: Sequence[Piece], copied: Sequence[Mark]) -> list[Work]:
        """The courier's part."""
        works = []
        for piece, mark in zip(sends, copied, strict=True):
            mark.synchronize()
            works.append(self._send(outbox[piece.rows], piece.peer, piece.tag))
        return works

    def _take(self, work: Work, target: Tensor, source: Tensor, begun: Mark) -> None:
        work.wait()
        with self._streams.arriving(begun):
            self._streams.copy(target, source)

    def _settle(self, begun: Mark) -> None:
        """What is computed from here on comes after the copies, those of one's own rows included."""
        with self._streams.arriving(begun):
            copied = self._streams.mark()
        copied.hold()

    def close(self) -> None:
        """Send no more."""
        self._courier.shutdown(wait=False, cancel_futures=True)


def _gone(leaving: Future[list[Work]]) -> None:
    for work in leaving.result():
        work.wait()
