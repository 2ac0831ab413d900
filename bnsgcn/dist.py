"""The process group: the only file that asks torch.distributed for rank, size or groups.

One frozen `World` is made once and passed down. A world of one worker needs no process group, so the
same code runs in a notebook. Every rank enters every collective in the same order, with zero rows too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor

from bnsgcn.device.place import common_backend, exact_device, pick_backend, pick_device
from bnsgcn.device.staging import TAGS, Staging, Step, Work, pieces_of
from bnsgcn.device.streams import Streams, streams_of
from bnsgcn.meeting import meet
from bnsgcn.pending import Pending, posted, raise_meaning

IntList = Iterable[Any]
"""Integers, Python's or NumPy's."""
Stretch = tuple[int, int, int]
"""A peer, and its rows: the first and the one after the last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Who this worker is and how it reaches the others."""

    rank: int
    size: int
    device: torch.device
    backend: str | None = None
    timeout_s: float = 600.0
    """How long to wait for another worker."""
    _messages: Iterator[int] = dataclasses.field(default_factory=itertools.count, compare=False, repr=False)
    """Numbers of `all_to_all` calls, the same on every rank."""
    held: set[Pending] = dataclasses.field(default_factory=set, compare=False, repr=False)
    """All that nobody has waited for."""
    streams: Streams | None = dataclasses.field(default=None, compare=False, repr=False)
    """Of a device that is not the CPU."""
    _staging: Staging | None = dataclasses.field(default=None, compare=False, repr=False)
    """How a device's rows get to gloo; None = they need no help."""

    @classmethod
    def single(cls, device: str = "cpu") -> World:
        """A world of one worker, without a process group."""
        place = exact_device(device)
        return cls(rank=0, size=1, device=place, streams=streams_of(place))

    @classmethod
    def start(cls, *, backend: str = "auto", device: str = "auto", timeout_s: float = 600.0) -> World:
        """Join the group that the launcher's environment describes; where there is none, a world of one.

        Raises:
            UserError: CUDA or nccl is asked for and cannot work here, see device/place.py.
            PeerLost: Not all workers have come within the timeout.
        """
        place = pick_device(device)
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls.single(str(place))
        name = pick_backend(backend, place)
        timeout = datetime.timedelta(seconds=timeout_s)
        began_s = time.monotonic()
        try:
            store, rank = meet(size, timeout)
            if backend == "auto":
                name = common_backend(store, rank, size, name, place)
            torch_dist.init_process_group(
                name,
                store=store,
                rank=rank,
                world_size=size,
                timeout=timeout,
                device_id=place if name == "nccl" else None,
            )
        except RuntimeError as error:
            waited_s = time.monotonic() - began_s
            if waited_s < timeout_s:  # a device, an address or a port of this worker's own is wrong
                raise
            raise_meaning(error, waited_s, timeout_s)
        _let_gloo_yield()
        streams = streams_of(place)
        return cls._in_group(name, streams, rank=rank, size=size, device=place, timeout_s=timeout_s)

    @classmethod
    def join(
        cls,
        rendezvous_file: str,
        *,
        rank: int,
        size: int,
        timeout_s: float = 60.0,
        device: str = "cpu",
        streams: Streams | None = None,
    ) -> World:
        """Join a gloo group of `size` ranks of one machine that meet at a file.

        `streams`: in place of the device's own.
        """
        if size > 1:
            torch_dist.init_process_group(
                "gloo",
                init_method=f"file://{rendezvous_file}",
                rank=rank,
                world_size=size,
                timeout=datetime.timedelta(seconds=timeout_s),
            )
        backend, place = "gloo" if size > 1 else None, exact_device(device)
        streams = streams or streams_of(place)
        return cls._in_group(backend, streams, rank=rank, size=size, device=place, timeout_s=timeout_s)

    @classmethod
    def _in_group(cls, backend: str | None, streams: Streams | None, **who: Any) -> World:
        staging = None
        if backend == "gloo" and streams is not None:
            staging = Staging(
                streams,
                lambda rows, peer, tag: posted(torch_dist.irecv, rows, peer, tag=tag),
                lambda rows, peer, tag: posted(torch_dist.isend, rows, peer, tag=tag),
            )
        return cls(backend=backend, streams=streams, _staging=staging, **who)

    def close(self) -> None:
        """Leave the group, with what is still under way given up; safe to call twice."""
        for pending in self.held:
            pending.give_up()
        self.held.clear()
        if self._staging is not None:
            self._staging.close()
        if self.size > 1 and torch_dist.is_initialized():
            torch_dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            self.all_reduce(torch.zeros(1, device=self.device))

    def all_reduce(self, values: Tensor, op: str = "sum") -> Tensor:
        """Reduce `values` in place over all ranks; op is sum, max or min. Returns `values`."""
        if self.size > 1:
            operation = {
                "sum": torch_dist.ReduceOp.SUM,
                "max": torch_dist.ReduceOp.MAX,
                "min": torch_dist.ReduceOp.MIN,
            }
            with self._within_reach(values) as there:
                self._do(torch_dist.all_reduce, there, operation[op])
        return values

    def broadcast(self, values: Tensor, source: int = 0) -> Tensor:
        """Overwrite `values` on every rank by those of rank `source`."""
        if self.size > 1:
            with self._within_reach(values) as there:
                self._do(torch_dist.broadcast, there, source)
        return values

    def all_gather(self, values: Tensor) -> Tensor:
        """Stack `values` [...] of all ranks: [size, ...]; the shapes must agree."""
        if self.size == 1:
            return values.unsqueeze(0)
        with self._within_reach(values) as there:
            pieces = [torch.empty_like(there) for _ in range(self.size)]
            self._do(torch_dist.all_gather, pieces, there.contiguous())
        return torch.stack(pieces).to(values.device)

    def all_gather_text(self, text: str) -> list[str]:
        """The texts of all ranks, of any lengths."""
        letters = torch.tensor(list(text.encode()), dtype=torch.uint8)
        lengths = self.all_gather(torch.tensor([letters.numel()], device=self.device)).flatten().tolist()
        row = torch.zeros(max(lengths), dtype=torch.uint8)
        row[: letters.numel()] = letters
        rows = self.all_gather(row.to(self.device)).cpu()
        return [bytes(row[:length].tolist()).decode() for row, length in zip(rows, lengths, strict=True)]

    def all_to_all(
        self, received: Tensor, sent: Tensor, receive_splits: Sequence[int], send_splits: Sequence[int]
    ) -> Pending:
        """Move rows: `send_splits[r]` rows of `sent` to rank r, into `receive_splits[r]` rows of `received`.

        Both tensors must stay untouched until the returned `Pending` was waited for.
        """
        assert received.shape[0] == sum(receive_splits), (received.shape, list(receive_splits))
        assert sent.shape[0] == sum(send_splits), (sent.shape, list(send_splits))
        if self.size == 1:
            received.copy_(sent)
            return Pending()
        into, out = _stretches(receive_splits), _stretches(send_splits)
        _, first, end = out[self.rank]
        if first < end:
            received[slice(*into[self.rank][1:])].copy_(sent[first:end])
        receives = [into[(self.rank - step) % self.size] for step in range(1, self.size)]
        sends = [out[(self.rank + step) % self.size] for step in range(1, self.size)]
        if self.backend == "nccl":
            return self._grouped(received, sent, receives, sends)
        tag = next(self._messages) % TAGS
        if self._staging is None:
            return self._point_to_point(received, sent, receives, sends, tag)
        row_bytes = sent.element_size() * sent.shape[1:].numel()
        pieces = pieces_of(receives, row_bytes, tag), pieces_of(sends, row_bytes, tag)
        senders = [piece.peer for piece in pieces[0]]
        return Pending(self._staging.post(received, sent, *pieces), (received, sent), self, senders)

    def _point_to_point(
        self,
        received: Tensor,
        sent: Tensor,
        receives: Sequence[Stretch],
        sends: Sequence[Stretch],
        tag: int,
    ) -> Pending:
        """`all_to_all` by messages between pairs, every receive announced before anything is sent.

        A gloo pair has one connection for both directions, and a sender waits for the receiver's
        announcement. gloo's own all_to_all sends first: the announcement then queues behind the rows of
        the other direction, and a link works one way at a time, at half its rate (benchmarks/NOTES.md).
        """
        works, peers = [], []
        for transfer, rows, stretches in (
            (torch_dist.irecv, received, receives),
            (torch_dist.isend, sent, sends),
        ):
            for peer, first, end in stretches:
                if rows[first:end].numel():
                    works.append(posted(transfer, rows[first:end], peer, tag=tag))
                    peers.append(peer)
        return Pending(works, (received, sent), self, peers)

    def _grouped(
        self, received: Tensor, sent: Tensor, receives: Sequence[Stretch], sends: Sequence[Stretch]
    ) -> Pending:
        """The same in one group, as nccl wants it; what comes next on the device waits, the host does not."""
        messages = [
            torch_dist.P2POp(transfer, rows[first:end], peer)
            for transfer, rows, stretches in (
                (torch_dist.irecv, received, receives),
                (torch_dist.isend, sent, sends),
            )
            for peer, first, end in stretches
            if rows[first:end].numel()
        ]
        works: list[Work] = list(posted(torch_dist.batch_isend_irecv, messages)) if messages else []
        if self.streams is not None:  # one's own rows are copied on the stream that this was called on
            works.append(Step(self.streams.mark().hold))
        return Pending(works, (received, sent), self)

    def leaving(self, *lent: Tensor | None) -> contextlib.AbstractContextManager[None]:
        """Inside, rows are packed and sent beside what is computed; it reads `lent`. On CPU in turn."""
        return contextlib.nullcontext() if self.streams is None else self.streams.leaving(*lent)

    def upload(self, values: Tensor) -> Tensor:
        """Values of the host on this world's device; the host does not wait."""
        return values if self.streams is None else self.streams.upload(values)

    @contextlib.contextmanager
    def _within_reach(self, values: Tensor) -> Iterator[Tensor]:
        """`values` where the transport can read and overwrite them."""
        if self._staging is None or self.streams is None:
            yield values
            return
        room = self.streams.room_for(values)
        self.streams.copy(room, values)
        self.streams.mark().synchronize()
        yield room
        self.streams.copy(values, room)

    def _do(self, collective: Callable[..., Any], *given: Any) -> None:
        """One collective, waited for."""
        Pending([posted(collective, *given, async_op=True)], (), self).wait()

    def all_to_all_now(self, sent: Tensor, send_splits: IntList, receive_splits: IntList) -> Tensor:
        """`all_to_all` of rows on this world's device into a new tensor, waited for."""
        send, receive = [int(rows) for rows in send_splits], [int(rows) for rows in receive_splits]
        received = sent.new_empty(sum(receive), *sent.shape[1:])
        self.all_to_all(received, sent.contiguous(), receive, send).wait()
        return received


def _stretches(splits: Sequence[int]) -> list[Stretch]:
    """Where each peer's rows are."""
    ends = list(itertools.accumulate(splits))
    return [(peer, end - count, end) for peer, (count, end) in enumerate(zip(splits, ends, strict=True))]


def _let_gloo_yield() -> None:
    """Keep gloo's socket thread from interrupting the compute threads at every packet.

    Linux's SCHED_BATCH: a thread that wakes up waits for the running one's time slice to end, and then finds
    more to move at once; on an idle core it runs at once. See benchmarks/NOTES.md for what it saves.
    """
    with contextlib.suppress(OSError, AttributeError):  # not on Linux, or not allowed
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith("gloo_tcp"):
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))
