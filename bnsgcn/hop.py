"""What a convolution sees of one layer: its rows, its neighbours, and the halo that is on its way.

The same model code runs on one process or many, in training, evaluation and prediction: only the hops differ.

    C source rows   D destination rows   R halo rows received   F features
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.exchange import Arriving, Lane, post
from bnsgcn.kernels import Block, Kernels
from bnsgcn.kernels.autograd import sum_block


@dataclasses.dataclass
class Clock:
    """The seed and the epoch that is running; what is random is a pure function of both."""

    seed: int
    epoch: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a worker, by their original node ids int64 [N].

    precision: number format of the factors of dense products, None = as computed.
    """

    node_ids: Tensor
    clock: Clock
    world: World
    kernels: Kernels
    precision: torch.dtype | None = None

    def __len__(self) -> int:
        return self.node_ids.numel()


@dataclasses.dataclass(frozen=True, eq=False)
class Hop:
    """One layer's neighbourhood.

    index: the layer, from 0.   src, dst: source and destination rows.   dst_place: int64 [D], places of the
    destination rows among the source rows, None where they are the same.   in_degree [D], out_degree [C]:
    degrees over the whole graph (of this view), as floats.   lane: the layer's traffic, None without peers.
    precomputed: [D, F], the convolution's aggregate of the input features, where it was computed at start.
    """

    index: int
    src: Rows
    dst: Rows
    dst_place: Tensor | None
    inner: Block
    lane: Lane | None
    in_degree: Tensor
    out_degree: Tensor
    precomputed: Tensor | None = None

    def post(self, h: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Arriving]:
        """Send boundary rows of h [C, F] (times `scale` [C]) on their way; returns (h, what will arrive).

        Use the returned h from here on: the peers' gradients are added to its gradient.
        """
        return post(h, scale, self.lane)

    def sum(
        self,
        h: Tensor,
        arriving: Arriving,
        *,
        source_scale: Tensor | None = None,
        row_scale: Tensor | None = None,
        into: Tensor | None = None,
    ) -> Tensor:
        """row_scale[d] * (sum over the neighbours c of d of source_scale[c] * h[c]): [C, F] -> [D, F].

        h and `arriving` are what `post` returned, for the same `source_scale`. The inner block is summed
        while the halo flies, and in backward while the halo gradient does. `into` [D, F]: added to in place.
        """
        total = sum_block(self.inner, h, row_scale=row_scale, col_scale=source_scale, addend=into)
        return arriving.add_to(total, row_scale)

    def self_rows(self, h: Tensor) -> Tensor:
        """The destination rows of h: [C, F] -> [D, F]."""
        return h if self.dst_place is None else select_rows(h, self.dst_place, self.src.kernels)


class _SelectRows(torch.autograd.Function):
    """h [C, F] -> h[place] [D, F]; backward puts the rows back among zeros (places do not repeat)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, place: Tensor, kernels: Kernels) -> Tensor:
        ctx.place, ctx.rows, ctx.kernels = place, h.shape[0], kernels
        return kernels.gather_rows(h, place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        spread = gradients[0].new_zeros(ctx.rows, gradients[0].shape[1])
        ctx.kernels.scatter_add_rows(spread, ctx.place, gradients[0].contiguous())
        return spread, None, None


def select_rows(h: Tensor, place: Tensor, kernels: Kernels) -> Tensor:
    """Rows `place` of h, differentiable."""
    selected: Tensor = _SelectRows.apply(h, place, kernels)
    return selected
