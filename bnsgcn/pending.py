"""Transfers under way, and what their errors say about the other workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from torch import Tensor
from torch.distributed import DistError


class Holder(Protocol):
    """Who started a transfer."""

    @property
    def timeout_s(self) -> float:
        """How long to wait for another worker."""
        ...

    @property
    def held(self) -> set[Pending]:
        """All that nobody has waited for."""
        ...


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
        holder: Holder | None = None,
        peers: Sequence[int] | None = None,
    ) -> None:
        self._works, self._tensors, self._holder, self._peers = works, tensors, holder, peers
        self._given_up = False
        if works and holder is not None:
            holder.held.add(self)

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
                peers = self._peers or ()
                peer = peers[number] if number < len(peers) else None
                timeout_s = self._holder.timeout_s if self._holder else float("inf")
                raise_meaning(error, time.monotonic() - began_s, timeout_s, peer)
        self._works, self._tensors = (), ()
        if self._holder is not None:
            self._holder.held.discard(self)

    def give_up(self) -> None:
        """Let go of everything without waiting: what is still open keeps connections open."""
        self._works, self._tensors, self._given_up = (), (), True


def posted(transfer: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Start a transfer; over a connection that is broken already this fails at once."""
    try:
        return transfer(*given, **named)
    except RuntimeError as error:
        raise_meaning(error, 0.0, float("inf"))


def raise_meaning(
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
