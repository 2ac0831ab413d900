"""What a convolution sees of one layer: its rows, its neighbours, and the halo that is on its way.

The same model code runs on one process or many, in training, evaluation and prediction: only the hops differ.

    C source rows   D destination rows   R halo rows received   F features   K heads   W width of a head
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.exchange.clock import Clock
from bnsgcn.exchange.lane import Lane
from bnsgcn.exchange.post_wait import Arriving, post
from bnsgcn.kernels import Block, Kernels
from bnsgcn.kernels.autograd import sum_block
from bnsgcn.kernels.input_rows import Input
from bnsgcn.nn.edge_softmax import Scored, edge_softmax_sum


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a worker, by their original node ids int64 [N].

    precision: number format of the factors of dense products, None = as computed.   storage: of rows between
    layers, None = as computed.
    """

    node_ids: Tensor
    clock: Clock
    world: World
    kernels: Kernels
    precision: torch.dtype | None = None
    storage: torch.dtype | None = None

    def __len__(self) -> int:
        return self.node_ids.numel()

    def keep(self, h: Tensor) -> Tensor:
        """h in the format in which rows are kept."""
        return h if self.storage is None else h.to(self.storage)


@dataclasses.dataclass(frozen=True, eq=False)
class Hop:
    """One layer's neighbourhood.

    index: the layer, from 0.   src, dst: source and destination rows.   dst_place: int64 [D], places of the
    destination rows among the source rows, None where they are the same.   in_degree [D], out_degree [C]:
    degrees over the whole graph (of this view), as floats.   precomputed: [D, F], the convolution's aggregate
    of the input features, where it was computed at start.   lane: the layer's traffic; None = nothing
    travels, since there are no peers or the aggregate is precomputed.
    """

    index: int
    src: Rows
    dst: Rows
    dst_place: Tensor | None
    inner: Block
    lane: Lane | None
    in_degree: Tensor
    out_degree: Tensor
    precomputed: Input | None = None

    def post(self, h: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Arriving]:
        """Send boundary rows of h [C, F] (times `scale` [C]) on their way; returns (h, what will arrive).

        Give the returned h to `sum` and to products, whose gradients are new tensors: the peers' gradients
        are added to its gradient in place. What passes a gradient on as it is (a residual sum) takes the h
        from before.
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

    def edge_softmax_sum(
        self,
        source: Scored,
        score_dst: Tensor,
        arriving: Arriving,
        of_halo: Callable[[Tensor], Scored],
        *,
        slope: float = 0.2,
    ) -> Tensor:
        """Values of d's neighbours c, weighted by softmax_c(leaky_relu(score_dst[d] + score[c])): [D, K, W].

        A row without neighbours gets 0; edge weights change nothing. `arriving` is what `post` returned.

        Args:
            source: values [C, K, W] and scores [C, K] of the source rows, made of the h that `post` returned.
            score_dst: [D, K].
            of_halo: makes the same two, [R, K, W] and [R, K], from rows that arrive [R, F].
            slope: of leaky_relu below 0; 1 = the plain sum of the scores.
        """
        return edge_softmax_sum(self.inner, source, score_dst, arriving, of_halo, slope)

    def own_and_inner_sum(self, h: Tensor, row_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(`self_rows` of h, `sum` of h without the halo): [C, F] -> [D, F] twice, with one gradient of h.

        Give the first to products only: its gradient is added to in place.
        """
        own, total = _OwnAndSum.apply(h, self.dst_place, self.inner, row_scale)
        return own, total

    def self_rows(self, h: Tensor) -> Tensor:
        """The destination rows of h: [C, F] -> [D, F]."""
        return self.split(h)[1]

    def split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(h, its destination rows): [C, F] -> [C, F], [D, F]; the returned h is used as `post`'s is."""
        if self.dst_place is None:
            return h, h
        whole, own = _Split.apply(h, self.dst_place, self.src.kernels)
        return whole, own


def chosen_rows(h: Tensor, place: Tensor, kernels: Kernels) -> Tensor:
    """h[place] of h [C, F]; places do not repeat."""
    rows: Tensor = _Split.apply(h, place, kernels)[1]
    return rows


class _Split(torch.autograd.Function):
    """h [C, F] -> h, h[place] [D, F]; places do not repeat.

    Backward adds the gradient of the rows to the gradient of h in place, instead of spreading it among zeros.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, place: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor]:
        ctx.place, ctx.kernels = place, kernels
        return h.view_as(h), kernels.gather_rows(h, place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous()
        ctx.kernels.scatter_add_rows(total, ctx.place, gradients[1].contiguous())
        return total, None, None


class _OwnAndSum(torch.autograd.Function):
    """h [C, F] -> h[place] [D, F] (h itself without a place), row_scale * A h [D, F].

    Backward sums A^T (row_scale * g) onto the gradient of the rows, instead of into a matrix of its own.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, place: Tensor | None, block: Block, row_scale: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.place, ctx.block, ctx.row_scale = place, block, row_scale
        own = h.view_as(h) if place is None else block.kernels.gather_rows(h, place)
        return own, block.kernels.sum_rows(block.csr, h, row_scale=row_scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        own, total = (gradient.contiguous() for gradient in gradients)
        block, kernels = ctx.block, ctx.block.kernels
        if ctx.place is None:
            return (
                kernels.sum_rows(block.transposed, total, col_scale=ctx.row_scale, out=own),
                None,
                None,
                None,
            )
        gradient = kernels.sum_rows(block.transposed, total, col_scale=ctx.row_scale)
        kernels.scatter_add_rows(gradient, ctx.place, own)
        return gradient, None, None, None
