"""What each rate of each boundary list brings in rows and costs in error, known from its weights alone.

A slot of weight w (`sampling.slot_importance`) whose row h arrives with probability pi and relative rounding
error r adds w^2 |h|^2 ((1 + r) / pi - 1) to the expected square error of its reader's aggregate (Horvitz and
Thompson, 1952; draws of different slots taken as independent). So a list is known by three figures a rate:
its rows, the sum of w^2 and the sum of w^2 / pi; |h|^2 is measured as the mean over the list.

    L layers that exchange   P parts   G rates
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from bnsgcn.dist import World
from bnsgcn.exchange import sampling
from bnsgcn.exchange.sampling import FloatArray
from bnsgcn.exchange.set_draws import SetDraws
from bnsgcn.local.boundary import BoolArray

GRID: FloatArray = np.round(np.geomspace(0.01, 1.0, 25), 4)
"""The rates that are looked at."""
MOST_NOISE = 4.0
"""Square error of a list's draws, over the square of what is missed where nothing is sent. Draws with more
noise than that were worse than no exchange (uniform ones at 0.01), those with less were better."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prices:
    """Of every list at every rate of `GRID`, the same on all ranks; float64 [L, P owners, P readers, G].

    rows: expected rows.   thinned: sum of w^2 / pi.   weight: sum of w^2, [L, P, P].
    """

    layers: tuple[int, ...]
    rows: FloatArray
    thinned: FloatArray
    weight: FloatArray

    @property
    def useful(self) -> BoolArray:
        """bool [L, P, P, G]: whether drawing at the rate is better than sending nothing."""
        found: BoolArray = self.thinned - self.weight[..., None] <= MOST_NOISE * self.weight[..., None]
        return found


def list_prices(world: World, draws: SetDraws) -> Prices:
    """The prices of all lists that `draws` draws from. Collective."""
    mine = np.zeros((2, len(draws.layers), world.size, len(GRID)))
    for owner, weight, slots in draws.slots():
        for column, rate in enumerate(GRID):
            probability = sampling.inclusion_probabilities(weight, float(rate))
            for place, of_layer in enumerate(slots):
                taken = probability[of_layer]
                mine[0, place, owner, column] = taken.sum()
                mine[1, place, owner, column] = (weight[of_layer] ** 2 / taken).sum()
    gathered = world.all_gather(torch.from_numpy(mine.ravel()).to(world.device)).cpu().numpy()
    rows, thinned = np.moveaxis(gathered.reshape(world.size, *mine.shape), 0, 3)
    return Prices(draws.layers, rows, thinned, thinned[..., -1])
