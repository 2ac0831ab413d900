"""Dropout whose mask belongs to the node: keyed by (seed, epoch, layer, original node id).

So results do not depend on the number of parts, and the mask is drawn again in backward instead of kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.kernels import autograd, random_bits
from bnsgcn.nn.hop import Rows
from bnsgcn.nn.products import Mask
from partition.errors import UserError

_COPIES = 1 << 20


def dropout_key(rows: Rows, layer: int, copy: int = 0) -> int:
    """The key of this epoch's mask of a layer; `copy` tells several masks of one layer apart."""
    return random_bits.key(
        rows.clock.seed, rows.clock.epoch, layer + copy * _COPIES, random_bits.Stream.DROPOUT
    )


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

    def forward(self, rows: Rows, h: Tensor, *, copy: int = 0) -> Tensor:
        """h [N, F] of `rows` [N] -> [N, F]."""
        if not self.training or self.p == 0:
            return h
        return autograd.dropout(rows.kernels, h, rows.node_ids, dropout_key(rows, self.layer, copy), self.p)

    def mask(self, rows: Rows, *, copy: int = 0) -> Mask | None:
        """The same dropout for a product to apply on the way; None = nothing is dropped."""
        if not self.training or self.p == 0:
            return None
        return Mask(rows.kernels, rows.node_ids, dropout_key(rows, self.layer, copy), self.p)

    def extra_repr(self) -> str:
        """Arguments, for printing."""
        return f"p={self.p}, layer={self.layer}"
