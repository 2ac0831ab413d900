"""What is in flight, what waits a round, and what is smoothed: the memory of an exchange.

A `Flight` is one message of one layer in one direction; it never leaves its draw. A `Mailbox` hands flights
out in the epoch in which they were posted (exact) or one epoch later (stale; PipeGCN, Wan et al., ICLR 2022).
A `Smoother` keeps a moving average for every slot, of the values seen so far by their age: it does not start
at zero, and reaches back as many epochs whatever the rate (where we depart from PipeGCN's).

    S slots   R rows of a message   F features
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnsgcn.exchange.draws import LayerDraw
from bnsgcn.kernels.half_rows import wide
from bnsgcn.pending import Pending
from partition.errors import UserError


class Flight:
    """One message: on its way until `rows` is asked for the first time, complete from then on."""

    def __init__(
        self, draw: LayerDraw, received: Tensor, pending: Pending, arrive: Callable[[Tensor], Tensor]
    ) -> None:
        """`pending` fills `received`, of which `arrive` makes the rows."""
        self.draw, self._received, self._pending = draw, received, pending
        self._arrive: Callable[[Tensor], Tensor] | None = arrive

    @classmethod
    def landed(cls, draw: LayerDraw, rows: Tensor) -> Flight:
        """A message that has arrived already."""
        flight = cls(draw, rows, Pending(), lambda received: received)
        flight.rows()
        return flight

    def rows(self) -> Tensor:
        """The rows [R, F], unpacked and smoothed; waits the first time."""
        if self._arrive is not None:
            self._pending.wait()
            self._received = self._arrive(self._received)
            self._arrive = None
        return self._received


class Mailbox:
    """One direction of one layer: flights by the epoch in which they were posted."""

    def __init__(self, name: str, *, stale: bool, first_exact: bool) -> None:
        self._name, self._stale, self._first_exact = name, stale, first_exact
        self._flights: dict[int, Flight] = {}
        self._first = 0

    def begin(self, epoch: int, *, stale: bool | None = None) -> None:
        """Let `epoch` be the first one, before which nothing was posted.

        `stale`: from here on; None = as before.
        """
        self._flights, self._first = {}, epoch
        self._stale = self._stale if stale is None else stale

    def post(self, epoch: int, flight: Flight) -> None:
        """Keep `flight`; posting twice in an epoch is a RuntimeError."""
        if epoch in self._flights:
            raise RuntimeError(f"{self._name}: posted twice in epoch {epoch}")
        self._flights[epoch] = flight

    def take(self, epoch: int) -> Flight | None:
        """What is due in `epoch`. None: nothing, because the first epoch starts from zeros.

        A stale mailbox whose first epoch is exact hands out that one's flight twice: at once and in the next.
        """
        due = epoch - int(self._stale)
        if due in self._flights:
            return self._flights.pop(due)
        if self._stale and epoch == self._first:
            if not self._first_exact:
                return None
            if epoch in self._flights:
                return self._flights[epoch]
        raise RuntimeError(f"{self._name}: nothing was posted in epoch {due}, collected in epoch {epoch}")

    def drain(self) -> None:
        """Wait for everything in flight; it stays here."""
        for epoch in sorted(self._flights):
            self._flights[epoch].rows()

    def state(self) -> dict[str, Any]:
        """Drained messages, ready for a checkpoint."""
        self.drain()
        return {
            str(epoch): {"rows": flight.rows(), "draw_epoch": flight.draw.epoch}
            for epoch, flight in self._flights.items()
        }

    def load(self, state: dict[str, Any], draw: Callable[[int], LayerDraw]) -> None:
        """The inverse of `state`; `draw` makes an epoch's draw again."""
        self._flights = {
            int(epoch): Flight.landed(draw(message["draw_epoch"]), message["rows"])
            for epoch, message in state.items()
        }


class Smoother:
    """Moving average of every slot: the mean of its values, one of `a` epochs ago weighing decay^a.

    Ages count epochs and not updates, so that draws at a low rate, or of a low probability, keep nothing for
    longer. Seen in every epoch, a slot has PipeGCN's average, corrected for its start.
    """

    def __init__(self, slots: int, decay: float) -> None:
        """`decay`: in (0, 1), by epoch."""
        self._slots, self._decay = slots, decay
        self._total: Tensor | None = None
        self._weight: Tensor | None = None
        self._seen: Tensor | None = None

    def update(self, rows: Tensor, slots: Tensor, epoch: int) -> Tensor:
        """Take in rows [R, F] of distinct `slots` int64 [R], posted in `epoch`; their averages [R, F]."""
        if self._total is None or self._weight is None or self._seen is None:
            exact = wide(rows.dtype)
            self._total = rows.new_zeros(self._slots, rows.shape[1], dtype=exact)
            self._weight = rows.new_zeros(self._slots, dtype=exact)
            self._seen = rows.new_zeros(self._slots, dtype=torch.int32)
        kept = self._decay ** (epoch - self._seen[slots]).to(self._weight.dtype)
        total = torch.addcmul(rows.to(self._total.dtype), self._total[slots], kept.unsqueeze(1))
        weight = self._weight[slots] * kept + 1
        self._total[slots], self._weight[slots] = total, weight
        self._seen.index_fill_(0, slots, epoch)
        return (total / weight.unsqueeze(1)).to(rows.dtype)

    def state(self) -> dict[str, Any]:
        """Totals, weights and when each slot was seen, ready for a checkpoint."""
        if self._total is None:
            return {}
        return {"total": self._total, "weight": self._weight, "seen": self._seen}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`.

        Raises:
            UserError: it is of an earlier version, whose averages counted updates.
        """
        if state and "total" not in state:
            raise UserError(
                "the checkpoint's moving averages are of an earlier version, whose --smooth-decay counted "
                "updates; --smooth-window counts epochs: train anew into a new --run-dir"
            )
        self._total, self._weight, self._seen = (state.get(name) for name in ("total", "weight", "seen"))
