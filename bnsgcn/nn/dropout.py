"""Dropout whose mask belongs to the node: keyed by (seed, epoch, layer, original node id).

So results do not depend on the number of parts, and the mask is drawn again in backward instead of kept.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from bnsgcn.kernels import Mask, autograd, random_bits
from bnsgcn.kernels.input_rows import InputRows
from bnsgcn.nn.hop import Rows
from bnsgcn.nn.products import Drop
from partition.errors import UserError

_COPIES = 1 << 20
Given = TypeVar("Given", Tensor, InputRows)


def mask_of(rows: Rows, layer: int, p: float, copy: int = 0) -> Mask:
    """This epoch's mask of a layer; `copy` tells several masks of one layer apart."""
    seed, epoch = rows.clock.seed, rows.clock.epoch
    key = random_bits.key(seed, epoch, layer + copy * _COPIES, random_bits.Stream.DROPOUT)
    return Mask(rows.node_ids, key, p)


class Dropout(torch.nn.Module):
    """Zero each entry with probability p and scale the rest by 1 / (1 - p), in training.

    Args:
        p: probability, in [0, 1).
        layer: which mask; two Dropouts of one model need two numbers.
    """

    def __init__(self, p: float, *, layer: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"dropout probability is {p}, must be in [0, 1)")
        self.p, self.layer = p, layer

    def forward(self, rows: Rows, h: Given, *, copy: int = 0) -> Given:
        """h [N, F] of `rows` [N] -> [N, F]."""
        if not self.training or self.p == 0:
            return h
        mask = mask_of(rows, self.layer, self.p, copy)
        return autograd.dropout(rows.kernels, h, mask) if isinstance(h, Tensor) else h.dropped(mask)

    def mask(self, rows: Rows, *, copy: int = 0) -> Drop | None:
        """The same dropout for a product to apply on the way; None = nothing is dropped."""
        if not self.training or self.p == 0:
            return None
        return Drop(rows.kernels, mask_of(rows, self.layer, self.p, copy))

    def extra_repr(self) -> str:
        """Arguments, for printing."""
        return f"p={self.p}, layer={self.layer}"
