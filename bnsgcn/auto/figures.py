"""What the ranks measured in an epoch, reduced to what decisions are made of; the same on every rank.

L layers that exchange   P parts   W number formats
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from bnsgcn.config import WireDtype
from bnsgcn.dist import World
from bnsgcn.exchange.gauge import Gauge
from bnsgcn.exchange.sampling import FloatArray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Figures:
    """float64 throughout.

    row_squares: [L, P owners, P readers], mean square norm of the rows of each list.   levels: [L], square
    norm of the aggregate.   wires: [W].   rounding: [L, W], relative mean square error of rows.   row_bytes:
    [L, W], of a row there and of its gradient back.   gaps: [L], relative square change of rows since the
    epoch before, NaN where it was not measured.
    """

    row_squares: FloatArray
    levels: FloatArray
    wires: tuple[WireDtype, ...]
    rounding: FloatArray
    row_bytes: FloatArray
    gaps: FloatArray


def unmeasured(lists: tuple[int, ...], row_bytes: Mapping[WireDtype, int]) -> Figures:
    """Before there are any: rows of unit norm, sums that are those of their lists, no rounding error.

    `lists`: (L, P, P).
    """
    layers, formats = lists[0], len(row_bytes)
    return Figures(
        row_squares=np.ones(lists),
        levels=np.ones(layers),
        wires=tuple(row_bytes),
        rounding=np.tile(np.arange(formats) * 1e-6, (layers, 1)),
        row_bytes=np.tile([2.0 * each for each in row_bytes.values()], (layers, 1)),
        gaps=np.full(layers, np.nan),
    )


def reduced(world: World, gauges: Sequence[Gauge]) -> Figures:
    """The figures of all ranks, from each one's gauges of the layers that exchange. Collective."""
    parts, wires, mine = world.size, tuple(gauges[0].tried), []
    for gauge in gauges:
        assert gauge.row_squares is not None
        errors = [tried.error for tried in gauge.tried.values()]
        mine += [*gauge.row_squares.tolist(), float(gauge.level), gauge.gap, gauge.tried_level, *errors]
    gathered = world.all_gather(torch.tensor(mine, dtype=torch.float64, device=world.device)).cpu().numpy()
    ranks = gathered.reshape(parts, len(gauges), parts + 3 + len(wires))
    sums = ranks[:, :, parts:].sum(0)
    tried = np.maximum(sums[:, 2:3], np.finfo(float).tiny)
    return Figures(
        row_squares=np.moveaxis(ranks[:, :, :parts], 0, 1),
        levels=sums[:, 0],
        wires=wires,
        rounding=sums[:, 3:] / tried,
        gaps=sums[:, 1] / tried[:, 0],
        row_bytes=np.array([[2.0 * each.tried[wire].row_bytes for wire in wires] for each in gauges]),
    )
