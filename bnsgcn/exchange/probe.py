"""What sampling and staleness cost, seen beside an exact exchange of the same rows, every k epochs.

A `Probe` watches one lane for one epoch. It changes nothing that the epoch computes; the bytes of its exact
exchange are not counted as the epoch's.

    H halo slots   R rows used   D destination rows   F features
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from bnsgcn.dist import World


@dataclasses.dataclass
class Probe:
    """Sums of squares of this rank, on its device; `results` adds up the ranks.

    fresh: [H, F], every halo slot's value of this epoch.   epoch: the epoch that is watched.
    """

    epoch: int
    fresh: Tensor
    error: Tensor | float = 0.0
    exact: Tensor | float = 0.0
    gap: Tensor | float = 0.0
    level: Tensor | float = 0.0
    age: Tensor | float = 0.0
    rows: int = 0

    def saw_rows(self, rows: Tensor, slots: Tensor, origin: Tensor) -> None:
        """The layer computes with rows [R, F] of `slots` [R], whose values are of epochs `origin` [R]."""
        expected = self.fresh[slots]
        self.gap += (rows - expected).double().pow(2).sum()
        self.level += expected.double().pow(2).sum()
        self.age += (self.epoch - origin).double().sum()
        self.rows += slots.numel()

    def saw_sum(self, approximate: Tensor, exact: Tensor) -> None:
        """The layer's aggregate [D, F], as it is and as an exact exchange would have made it."""
        self.error += (approximate - exact).double().pow(2).sum()
        self.exact += exact.double().pow(2).sum()

    def results(self, world: World) -> dict[str, float]:
        """Relative error of the aggregate, relative gap of the rows used, their mean age. Collective.

        What there was nothing of is left out: no row was used, or a model of one's own sums by itself.
        """
        sums = torch.tensor(
            [float(each) for each in (self.error, self.exact, self.gap, self.level, self.age, self.rows)],
            dtype=torch.float64,
            device=world.device,
        )
        error, exact, gap, level, age, rows = world.all_reduce(sums).tolist()
        found = {
            "sampling/relative_error": (error**0.5, exact**0.5),
            "stale/relative_gap": (gap**0.5, level**0.5),
            "stale/mean_slot_age_epochs": (age, rows),
        }
        return {name: part / whole for name, (part, whole) in found.items() if whole}
