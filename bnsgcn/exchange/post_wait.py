"""Boundary exchange: rows leave before the inner block is summed, and are waited for after it.

Two autograd Functions, whose backwards are each other's transposes:

    | Function | forward                            | backward                                          |
    |----------|------------------------------------|---------------------------------------------------|
    | _Post    | h [C, F] -> h; boundary rows leave | collects gradient rows, adds them to h's gradient |
    | _Wait    | collects rows [R, F]               | halo gradient rows [R, F] leave                   |

The engine runs backward in reverse order of creation: the halo block's gradient, then _Wait (gradient
leaves), then products that were left for later (nn/products.py, `late`) and the inner block's gradient, then
_Post (gradient is waited for). Pitfall: a row that three peers read is three times in what is sent, so its
gradient is accumulated, never assigned.

All ranks call in the same order, with zero rows too.

    C source rows   S rows sent   R rows received   D destination rows   F features
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnsgcn.exchange.lane import Arrival, Lane
from bnsgcn.kernels.autograd import sum_block


class _Post(torch.autograd.Function):
    """h leaves for the readers; see the table above. The token ties _Wait to this node."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, scale: Tensor | None, lane: Lane) -> tuple[Tensor, Tensor]:
        ctx.lane, ctx.scale = lane, scale
        lane.post_features(h.detach(), scale)
        return h.view_as(h), h.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        arrived = ctx.lane.take_gradients()
        if arrived is not None:
            rows, draw = arrived
            scale = None if ctx.scale is None else ctx.scale[draw.send_rows]
            gradient = gradient.contiguous()
            ctx.lane.add_rows(gradient, draw.send_rows, rows, scale)
        return gradient, None, None


class _Wait(torch.autograd.Function):
    """token -> halo rows; backward sends their gradient back."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, lane: Lane, features: int, arrival: list[Arrival]) -> Tensor:
        ctx.lane = lane
        taken, ctx.draw = lane.take_features(features, token.dtype)
        arrival.append(taken)
        return taken.rows.view_as(taken.rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.lane.post_gradients(gradients[0], ctx.draw)
        return gradients[0].new_empty(0), None, None, None


@dataclasses.dataclass(frozen=True, eq=False)
class Arriving:
    """Halo rows that are under way; without peers there are none."""

    lane: Lane | None
    token: Tensor
    features: int

    def wait(self) -> Arrival | None:
        """The halo rows [R, F], differentiable, with their block and scale; None without peers."""
        if self.lane is None:
            return None
        arrival: list[Arrival] = []
        rows: Tensor = _Wait.apply(self.token, self.lane, self.features, arrival)
        return dataclasses.replace(arrival[0], rows=rows)

    def add_to(self, total: Tensor, row_scale: Tensor | None = None) -> Tensor:
        """Add the halo block's sum to `total` [D, F], in place."""
        arrived = self.wait()
        if arrived is None or self.lane is None:
            return total
        inner = total.detach().clone() if self.lane.watched else total
        total = sum_block(
            arrived.block, arrived.rows, row_scale=row_scale, col_scale=arrived.scale, addend=total
        )
        self.watch_sum(
            total, lambda every: sum_block(every.block, every.rows, row_scale=row_scale, addend=inner)
        )
        return total

    def watch_sum(self, found: Tensor, exact: Callable[[Arrival], Tensor]) -> None:
        """For telemetry: an aggregate, and how it is made of what an exact exchange would have brought."""
        if self.lane is not None:
            self.lane.watch_sum(found, exact)


def post(h: Tensor, scale: Tensor | None, lane: Lane | None) -> tuple[Tensor, Arriving]:
    """Send boundary rows of h [C, F], times `scale` [C]; returns h to go on with, and what will arrive."""
    if lane is None:
        return h, Arriving(None, h, h.shape[1])
    h, token = _Post.apply(h, scale, lane)
    return h, Arriving(lane, token, h.shape[1])
