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
from typing import Any, NoReturn

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.distributed import DistError

from bnsgcn.meeting import meet
from partition.errors import UserError

IntList = Iterable[Any]
"""Integers, Python's or NumPy's."""
_TAGS = 1 << 16
"""More than there are messages on their way at any time."""


class PeerLost(RuntimeError):
    """Another worker has gone or fallen silent: a consequence, whose cause is to be looked for there."""


class Pending:
    """A collective under way; `wait` may be called again and then costs nothing.

    Until then its world keeps it, with its tensors, even when nobody else knows it any more: a gloo message
    whose buffer is gone when it arrives would block its connection for good.
    """

    def __init__(
        self,
        works: Sequence[Any] = (),
        tensors: Sequence[Tensor] = (),
        world: World | None = None,
        peers: Sequence[int] | None = None,
    ) -> None:
        self._works, self._tensors, self._world, self._peers = works, tensors, world, peers
        self._given_up = False
        if works and world is not None:
            world._held.add(self)

    def wait(self) -> None:
        """Block until the collective is complete.

        Raises:
            PeerLost: Another worker is dead or late (within the timeout), or this one has left the group.
        """
        if self._given_up:
            raise PeerLost("this worker left its group before the message had arrived")
        for number, work in enumerate(self._works):
            began_s = time.monotonic()
            try:
                work.wait()
            except RuntimeError as error:
                peer = self._peers[number] if self._peers else None
                timeout_s = self._world.timeout_s if self._world else float("inf")
                _raise_meaning(error, time.monotonic() - began_s, timeout_s, peer)
        self._works, self._tensors = (), ()
        if self._world is not None:
            self._world._held.discard(self)

    def give_up(self) -> None:
        """Let go of everything without waiting: what is still open keeps connections open."""
        self._works, self._tensors, self._given_up = (), (), True


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
    _held: set[Pending] = dataclasses.field(default_factory=set, compare=False, repr=False)
    """All that nobody has waited for."""

    @classmethod
    def single(cls, device: str = "cpu") -> World:
        """A world of one worker, without a process group."""
        return cls(rank=0, size=1, device=torch.device(device))

    @classmethod
    def start(cls, *, backend: str = "auto", device: str = "auto", timeout_s: float = 600.0) -> World:
        """Join the group that the launcher's environment describes; where there is none, a world of one.

        Raises:
            UserError: nccl without CUDA devices, or more local workers than CUDA devices.
            PeerLost: Not all workers have come within the timeout.
        """
        place = _pick_device(device)
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(rank=0, size=1, device=place)
        name = _pick_backend(backend, place)
        timeout = datetime.timedelta(seconds=timeout_s)
        began_s = time.monotonic()
        try:
            store, rank = meet(size, timeout)
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
            _raise_meaning(error, waited_s, timeout_s)
        _let_gloo_yield()
        return cls(rank=rank, size=size, device=place, backend=name, timeout_s=timeout_s)

    @classmethod
    def join(cls, rendezvous_file: str, *, rank: int, size: int, timeout_s: float = 60.0) -> World:
        """Join a gloo group of `size` ranks of one machine that meet at a file."""
        if size > 1:
            torch_dist.init_process_group(
                "gloo",
                init_method=f"file://{rendezvous_file}",
                rank=rank,
                world_size=size,
                timeout=datetime.timedelta(seconds=timeout_s),
            )
        backend = "gloo" if size > 1 else None
        return cls(rank=rank, size=size, device=torch.device("cpu"), backend=backend, timeout_s=timeout_s)

    def close(self) -> None:
        """Leave the group, with what is still under way given up; safe to call twice."""
        for pending in self._held:
            pending.give_up()
        self._held.clear()
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
            self._do(torch_dist.all_reduce, values, operation[op])
        return values

    def broadcast(self, values: Tensor, source: int = 0) -> Tensor:
        """Overwrite `values` on every rank by those of rank `source`."""
        if self.size > 1:
            self._do(torch_dist.broadcast, values, source)
        return values

    def all_gather(self, values: Tensor) -> Tensor:
        """Stack `values` [...] of all ranks: [size, ...]; the shapes must agree."""
        if self.size == 1:
            return values.unsqueeze(0)
        pieces = [torch.empty_like(values) for _ in range(self.size)]
        self._do(torch_dist.all_gather, pieces, values.contiguous())
        return torch.stack(pieces)

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
        if self.backend == "gloo" and self.device.type == "cpu":
            return self._point_to_point(received, sent, receive_splits, send_splits)
        splits = list(receive_splits), list(send_splits)
        work = _post(torch_dist.all_to_all_single, received, sent, *splits, async_op=True)
        return Pending([work], (received, sent), self)

    def _point_to_point(
        self, received: Tensor, sent: Tensor, receive_splits: Sequence[int], send_splits: Sequence[int]
    ) -> Pending:
        """`all_to_all` by messages between pairs, every receive announced before anything is sent.

        A gloo pair has one connection for both directions, and a sender waits for the receiver's
        announcement. gloo's own all_to_all sends first: the announcement then queues behind the rows of
        the other direction, and a link works one way at a time, at half its rate (benchmarks/NOTES.md).
        """
        tag = next(self._messages) % _TAGS
        into, out = received.split(list(receive_splits)), sent.split(list(send_splits))
        into[self.rank].copy_(out[self.rank])
        works, peers = [], []
        for step in range(1, self.size):
            peer = (self.rank - step) % self.size
            if into[peer].numel():
                works.append(_post(torch_dist.irecv, into[peer], peer, tag=tag))
                peers.append(peer)
        for step in range(1, self.size):
            peer = (self.rank + step) % self.size
            if out[peer].numel():
                works.append(_post(torch_dist.isend, out[peer], peer, tag=tag))
                peers.append(peer)
        return Pending(works, (received, sent), self, peers)

    def _do(self, collective: Callable[..., Any], *given: Any) -> None:
        """One collective, waited for."""
        Pending([_post(collective, *given, async_op=True)], (), self).wait()

    def all_to_all_now(self, sent: Tensor, send_splits: IntList, receive_splits: IntList) -> Tensor:
        """`all_to_all` of rows on this world's device into a new tensor, waited for."""
        send, receive = [int(rows) for rows in send_splits], [int(rows) for rows in receive_splits]
        received = sent.new_empty(sum(receive), *sent.shape[1:])
        self.all_to_all(received, sent.contiguous(), receive, send).wait()
        return received


def _post(transfer: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Start a transfer; over a connection that is broken already this fails at once."""
    try:
        return transfer(*given, **named)
    except RuntimeError as error:
        _raise_meaning(error, 0.0, float("inf"))


def _raise_meaning(
    error: RuntimeError, waited_s: float, timeout_s: float, peer: int | None = None
) -> NoReturn:
    """Raise what an error of a transfer or of the store says about the other workers.

    gloo raises plain RuntimeErrors, nccl and the store DistErrors: the other side is the cause of both. A
    subclass of another kind, such as that for memory that a device lacks, is this worker's own and stays.
    """
    if type(error) is not RuntimeError and not isinstance(error, DistError):
        raise error
    who = "another rank" if peer is None else f"rank {peer}"
    if waited_s >= timeout_s:
        raise PeerLost(f"{who} has not answered for {timeout_s:g} s (--timeout-s)") from error
    raise PeerLost(f"the connection to {who} has broken") from error


def _let_gloo_yield() -> None:
    """Keep gloo's socket thread from interrupting the compute threads at every packet.

    Linux's SCHED_BATCH: a thread that wakes up waits for the running one's time slice to end, and then finds
    more to move at once; on an idle core it runs at once. See benchmarks/NOTES.md for what it saves.
    """
    with contextlib.suppress(OSError, AttributeError):  # not on Linux, or not allowed
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith("gloo_tcp"):
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))


def local_size() -> int:
    """Workers on this machine, as torchrun says; 1 outside torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _pick_device(name: str) -> torch.device:
    wants_cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    if not wants_cuda:
        return torch.device("cpu")
    count, local_rank = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if local_size() > count:
        if name == "auto":
            return torch.device("cpu")
        fewer = f"use at most {count} workers a machine or --device cpu" if count else "use --device cpu"
        raise UserError(
            f"--device cuda with {local_size()} local workers but {count} CUDA devices here; {fewer}"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _pick_backend(name: str, device: torch.device) -> str:
    if name == "auto":
        return "nccl" if device.type == "cuda" else "gloo"
    if name == "nccl" and device.type != "cuda":
        raise UserError(
            "--backend nccl needs CUDA tensors and there is no CUDA device here; use --backend gloo"
        )
    return name
