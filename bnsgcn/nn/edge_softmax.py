"""Sums weighted by a softmax over each row's arcs, the inner block's while the halo flies.

Both blocks are summed with a shift of their own and combined by the larger one, as in online softmax.

    C source rows   D destination rows   R halo rows   F features   K heads   W width of a head
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from bnsgcn.exchange.lane import Arrival
from bnsgcn.exchange.post_wait import Arriving
from bnsgcn.kernels import Block, autograd

Scored: TypeAlias = tuple[Tensor, Tensor]
"""Values [N, K, W] and scores [N, K] of some source rows."""
_Sums: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Of one block: weighted sum [D, K, W], sum of weights [D, K], shift of the scores [D, K]."""


def edge_softmax_sum(
    inner: Block,
    source: Scored,
    score_dst: Tensor,
    arriving: Arriving,
    of_halo: Callable[[Tensor], Scored],
    slope: float,
) -> Tensor:
    """See `Hop.edge_softmax_sum`."""
    own = _block_sums(inner, source, score_dst, slope)

    def with_halo(arrived: Arrival) -> Tensor:
        return _combine([own, _block_sums(arrived.block, of_halo(arrived.rows), score_dst, slope)])

    arrived = arriving.wait()
    out = _combine([own]) if arrived is None else with_halo(arrived)
    arriving.watch_sum(out, with_halo)
    return out


def _block_sums(block: Block, source: Scored, score_dst: Tensor, slope: float) -> _Sums:
    values, score_src = source
    largest = block.kernels.row_max(block.csr, score_src.detach())
    shift = torch.nn.functional.leaky_relu(score_dst.detach() + largest, slope)
    safe = torch.where(shift.isinf(), torch.zeros_like(shift), shift)
    total, weight = autograd.attention_sum(block, score_dst, score_src, values, safe, slope)
    return total, weight, shift


def _combine(parts: list[_Sums]) -> Tensor:
    """Softmax-weighted means of several blocks as one: [D, K, W]; rows without neighbours are 0."""
    shift = torch.stack([part[2] for part in parts]).amax(0)
    shift = torch.where(shift.isinf(), torch.zeros_like(shift), shift)
    factors = [torch.exp(part[2] - shift) for part in parts]
    total = sum((part[0] * f.unsqueeze(-1) for part, f in zip(parts, factors, strict=True)), torch.zeros(()))
    weight = sum((part[1] * f for part, f in zip(parts, factors, strict=True)), torch.zeros(()))
    weight = torch.where(weight == 0, torch.ones_like(weight), weight)
    return total / weight.unsqueeze(-1)
