"""What a lane's rows and sums are like in one epoch: how large, and what each number format does to them.

A `Gauge` sends nothing: from what it sees and the boundary lists' weights follows what any rate would cost in
error (auto/prices.py). It changes nothing that the epoch computes.

    S boundary rows that are looked at   F features   D destination rows   P parts
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bnsgcn.config import WireDtype
from bnsgcn.exchange.wire import Wire
from bnsgcn.local.boundary import IntArray

SAMPLE_ROWS = 4096
"""Of a layer, that are looked at, and of its sums."""


@dataclasses.dataclass
class Tried:
    """What a number format did to some rows: the sum of their square errors, and bytes a row."""

    error: float
    row_bytes: int


@dataclasses.dataclass
class Gauge:
    """Sums of this rank, of one layer.

    row_squares: float64 [P], mean square norm of boundary rows for each reader, 0 where there are none.
    tried: every number format on some rows whose square norm is `tried_level`.   level: square norm of the
    aggregate.   gap: square norm of what these rows changed by since the epoch before, NaN where those are
    not known.
    """

    row_squares: Tensor | None = None
    tried: dict[WireDtype, Tried] = dataclasses.field(default_factory=dict)
    tried_level: float = 0.0
    level: Tensor | float = 0.0
    gap: float = math.nan

    def saw_rows(
        self, rows: Tensor, splits: tuple[int, ...], wires: Mapping[WireDtype, Wire], key: int
    ) -> None:
        """Some boundary rows [S, F] of the layer, `splits[r]` of them for rank r; `wires` are to be tried."""
        squares = rows.double().pow(2).sum(1)
        self.row_squares = torch.stack([each.sum() / max(1, each.numel()) for each in squares.split(splits)])
        self.tried_level = float(squares.sum())
        for dtype, wire in wires.items():
            back = wire.unpack(wire.pack(rows, None, key), rows.dtype, rows.shape[1])
            error = (back - rows).double().pow(2).sum()
            row = wire.room(1, rows.shape[1], rows)
            self.tried[dtype] = Tried(float(error), row.numel() * row.element_size())

    def saw_change(self, rows: Tensor, before: Tensor) -> None:
        """The same rows [S, F] in this epoch and in the one before."""
        self.gap = float((rows - before).double().pow(2).sum())

    def saw_sum(self, found: Tensor) -> None:
        """The layer's aggregate [D, F]."""
        if found.shape[0]:
            some = found.detach()[:: every(found.shape[0])]
            self.level += some.double().pow(2).sum() * (found.shape[0] / some.shape[0])


def every(rows: int) -> int:
    """Of how many rows one is looked at."""
    return -(-rows // SAMPLE_ROWS)


def some_of(splits: Sequence[int]) -> tuple[IntArray, tuple[int, ...]]:
    """Places of the boundary rows that are looked at [S], of lists with `splits` rows; how many of each."""
    step, ends = max(1, every(sum(splits))), np.cumsum([0, *splits])
    places = [np.arange(start, end, step) for start, end in itertools.pairwise(ends)]
    return np.concatenate(places), tuple(each.size for each in places)
