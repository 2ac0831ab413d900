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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from partition.errors import UserError

IntList = Iterable[Any]
"""Integers, Python's or NumPy's."""
_TAGS = 1 << 16
"""More than there are messages on their way at any time."""


class Pending:
    """A collective under way; `wait` may be called again and then costs nothing.

    Until then it is kept in `held`, with its tensors, even when nobody else knows it any more: a gloo message
    whose buffer is gone when it arrives would block its connection for good.
    """

    def __init__(
        self, works: Sequence[Any] = (), tensors: Sequence[Tensor] = (), held: set[Pending] | None = None
    ) -> None:
        self._works, self._tensors, self._held = works, tensors, held
        self._given_up = False
        if works and held is not None:
            held.add(self)

    def wait(self) -> None:
        """Block until the collective is complete.

        Raises:
            RuntimeError: A peer is dead or late (within the timeout), or this worker has left the group.
        """
        if self._given_up:
            raise RuntimeError("this worker left its group before the message had arrived")
        for work in self._works:
            work.wait()
        self._works, self._tensors = (), ()
        if self._held is not None:
            self._held.discard(self)

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
        """Join the group that torchrun's environment describes; outside torchrun, a world of one.

        Raises:
            ValueError: nccl without CUDA devices, or more local workers than CUDA devices.
        """
        place = _pick_device(device)
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(rank=0, size=1, device=place)
        name = _pick_backend(backend, place)
        timeout = datetime.timedelta(seconds=timeout_s)
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        store.set_timeout(timeout)
        torch_dist.init_process_group(
            name,
            store=PrefixStore(_attempt(), store),
            rank=rank,
            world_size=size,
            timeout=timeout,
            device_id=place if name == "nccl" else None,
        )
        _let_gloo_yield()
        return cls(rank=torch_dist.get_rank(), size=torch_dist.get_world_size(), device=place, backend=name)

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
        return cls(rank=rank, size=size, device=torch.device("cpu"), backend="gloo" if size > 1 else None)

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
            torch_dist.all_reduce(values, operation[op])
        return values

    def broadcast(self, values: Tensor, source: int = 0) -> Tensor:
        """Overwrite `values` on every rank by those of rank `source`."""
        if self.size > 1:
            torch_dist.broadcast(values, source)
        return values

    def all_gather(self, values: Tensor) -> Tensor:
        """Stack `values` [...] of all ranks: [size, ...]; the shapes must agree."""
        if self.size == 1:
            return values.unsqueeze(0)
        pieces = [torch.empty_like(values) for _ in range(self.size)]
        torch_dist.all_gather(pieces, values.contiguous())
        return torch.stack(pieces)

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
        work = torch_dist.all_to_all_single(
            received, sent, list(receive_splits), list(send_splits), async_op=True
        )
        return Pending([work], (received, sent), self._held)

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
        works = []
        for step in range(1, self.size):
            peer = (self.rank - step) % self.size
            if into[peer].numel():
                works.append(torch_dist.irecv(into[peer], peer, tag=tag))
        for step in range(1, self.size):
            peer = (self.rank + step) % self.size
            if out[peer].numel():
                works.append(torch_dist.isend(out[peer], peer, tag=tag))
        return Pending(works, (received, sent), self._held)

    def all_to_all_now(self, sent: Tensor, send_splits: IntList, receive_splits: IntList) -> Tensor:
        """`all_to_all` of rows on this world's device into a new tensor, waited for."""
        send, receive = [int(rows) for rows in send_splits], [int(rows) for rows in receive_splits]
        received = sent.new_empty(sum(receive), *sent.shape[1:])
        self.all_to_all(received, sent.contiguous(), receive, send).wait()
        return received


def _let_gloo_yield() -> None:
    """Keep gloo's socket thread from interrupting the compute threads at every packet.

    Linux's SCHED_BATCH: a thread that wakes up waits for the running one's time slice to end, and then finds
    more to move at once; on an idle core it runs at once. See benchmarks/NOTES.md for what it saves.
    """
    with contextlib.suppress(OSError, AttributeError):  # not on Linux, or not allowed
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith("gloo_tcp"):
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))


def _attempt() -> str:
    """Keeps a restarted group from reading the addresses of its dead predecessor in torchrun's store.

    Several machines count their restarts apart; launch/recipes/two_machines.sh has what they need.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') if alone else 'any'}"


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
        raise UserError(
            f"--device cuda with {local_size()} local workers but {count} CUDA devices here; "
            f"use at most {count} workers a machine or --device cpu"
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
