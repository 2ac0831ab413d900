"""The setting whose error is the smallest at its bytes: reverse water-filling over layers, peers and rates.

With the price m of a byte given, every list takes the rate that makes error + m bytes the smallest, by
itself, and every layer the number format whose lists then come out best. Lists whose error m bytes cannot
buy off stay thin, as components below the water level do in rate-distortion theory. One number, m, so leads
from the whole exchange to the thinnest; it is found by halving.

    L layers that exchange   P parts   G rates   W number formats
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from bnsgcn.auto.figures import Figures
from bnsgcn.auto.prices import GRID, Prices
from bnsgcn.config import WireDtype
from bnsgcn.exchange.sampling import FloatArray
from bnsgcn.exchange.settings import Setting

_HALVINGS = 60
_MOST, _LEAST = 1e6, 1e-18
STALE_COSTS = 4.0
"""Times the square change of rows within an epoch: staleness does not average out, as unbiased draws do, and
gradients are as late as rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class Allotment:
    """A setting with what is expected of it.

    bytes: payload of an epoch, all ranks, both directions.   error: root of the sum over layers of the
    relative square error of their aggregates, of draws, rounding and staleness.
    """

    setting: Setting
    bytes: float
    error: float


class Market:
    """All that can be had, at what it costs in bytes and in error."""

    def __init__(self, prices: Prices, figures: Figures) -> None:
        self._prices, self._figures = prices, figures
        self._wires: tuple[WireDtype, ...] = figures.wires
        level = np.maximum(figures.levels, np.finfo(float).tiny)[:, None, None, None]
        size = figures.row_squares[..., None]
        rounding = figures.rounding.T[:, :, None, None, None]  # [W, L, 1, 1, 1]
        whole = prices.weight[..., None]
        self._error = size * ((1 + rounding) * prices.thinned - whole) / level
        self._bytes = figures.row_bytes.T[:, :, None, None, None] * prices.rows
        self._open = np.where(prices.useful, 0.0, np.inf)
        share = (figures.row_squares * prices.weight).sum((1, 2)) / level[:, 0, 0, 0]
        self._stale = float((STALE_COSTS * figures.gaps * share).sum())

    def at(self, price: float) -> Allotment:
        """What is taken where a byte costs `price` in square error."""
        cost = self._error + price * self._bytes + self._open
        best = (len(GRID) - 1 - cost[..., ::-1].argmin(-1))[..., None]  # of equals the whole: of empty lists
        total = np.take_along_axis(cost, best, -1).sum((2, 3, 4))  # [W, L]
        wire = total.argmin(0)
        layers = np.arange(len(self._prices.layers))
        chosen = best[wire, layers]
        return self.of(
            Setting(
                layers=self._prices.layers,
                rates=GRID[chosen[..., 0]],
                wires=tuple(self._wires[each] for each in wire),
            )
        )

    def within_bytes(self, most: float) -> Allotment:
        """The smallest error for at most `most` bytes; the thinnest there is where that is still more."""
        return self.at(self._edge(lambda found: found.bytes > most)[1])

    def within_error(self, most: float) -> Allotment:
        """The fewest bytes with at most the error `most`; the finest there is where that is still more."""
        return self.at(self._edge(lambda found: found.error <= most)[0])

    def of(self, setting: Setting) -> Allotment:
        """A setting whose rates are on the grid, with what is expected of it."""
        error = float(self._chosen(self._error, setting).sum())
        return Allotment(
            setting=setting,
            bytes=float(self._chosen(self._bytes, setting).sum()),
            error=max(0.0, error + (self._stale if setting.pipeline else 0.0)) ** 0.5,
        )

    def late(self, found: Allotment) -> Allotment | None:
        """The same an epoch late; None where it is not known how much rows change."""
        return None if np.isnan(self._stale) else self.of(dataclasses.replace(found.setting, pipeline=True))

    def pairs(self, setting: Setting) -> tuple[FloatArray, int]:
        """Bytes that every rank sends to every other in an epoch [P, P], and in how many messages."""
        there = self._chosen(self._bytes, setting).sum((0, 3)) / 2
        return there + there.T, 2 * len(setting.layers)

    def _edge(self, holds: Callable[[Allotment], bool]) -> tuple[float, float]:
        """Two neighbouring prices; up to the first `holds` does, from the second on it does not."""
        low, high = _LEAST, _MOST
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if holds(self.at(middle)) else (low, middle)
        return low, high

    def _chosen(self, costs: FloatArray, setting: Setting) -> FloatArray:
        """Of `costs` [W, L, ...], what a setting's rates and formats cost, [L, ...]."""
        wire = np.array([self._wires.index(each) for each in setting.wires], np.int64)
        place = np.searchsorted(GRID, setting.rates)[..., None]
        return np.take_along_axis(costs[wire, np.arange(len(wire))], place, -1)
