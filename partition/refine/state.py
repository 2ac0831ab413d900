"""Where a refinement stands: the assignment, what each part carries, and the two operations on it.

Shapes:
    N nodes   E arcs   P parts   K kinds of load besides rows sent and rows received
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, Int64Array, IntArray

PATIENCES = 1024
FREE_NODES = 50
"""Of so many nodes one row may be sent before it counts: fewer rows than that are as good as none."""

Int32Array = npt.NDArray[np.int32]
Loads = npt.NDArray[np.float64]


class Passes(Protocol):
    """The two operations; anneal.c and portable.py do the same."""

    def tally(self, state: State) -> None:
        """Fill `count`, the rows sent and the rows received."""

    def anneal(self, state: State, proposals: int, hot: float, cold: float, seed: int) -> int:
        """Random moves at a temperature that falls from `hot` to `cold`; the number of moves made."""


@dataclasses.dataclass(eq=False)
class State:
    """The arrays that `passes` work on and change in place."""

    adjacency: Adjacency
    """Symmetric, with int32 indices."""
    weights: npt.NDArray[np.float32]
    """[K, N] what each node adds to each load."""
    part_of: Int32Array
    cap: Loads
    """[K+2] allowed load over mean load; the last two are for rows sent and received."""
    strength: Loads
    """[K+2] penalty per mean load above the cap, in units."""
    price: Loads
    """[P, P] of a row from its owner to a reader; 0 on the diagonal."""
    parts: int
    passes: Passes
    unit: float = 1.0
    """What one mean load is worth, in rows at their price."""
    pull: float = 0.02
    """Weight of the squared distance to the mean load, in units."""

    def __post_init__(self) -> None:
        assert self.adjacency.indices.dtype == np.int32
        self.nodes = self.part_of.size
        self.kinds = self.weights.shape[0]
        self.count: Int32Array = np.zeros((self.nodes, self.parts), np.int32)
        self.loads: Loads = np.zeros((self.kinds + 2, self.parts))
        self.size: Int64Array = np.zeros(self.parts, np.int64)
        self.paid: Loads = np.zeros_like(self.loads)
        self.change: Int32Array = np.zeros(self.parts, np.int32)
        self.patience: Loads = -np.log((np.arange(PATIENCES) + 0.5) / PATIENCES)
        self.per_mean: Loads = np.zeros(self.kinds + 2)
        self.restart(self.part_of)

    def restart(self, part_of: Int32Array) -> None:
        """Go on from another assignment, which is copied."""
        self.part_of[:] = part_of
        self.size[:] = np.bincount(self.part_of, minlength=self.parts)
        self.count[:] = 0
        self.loads[:] = 0
        for kind in range(self.kinds):
            self.loads[kind] = np.bincount(self.part_of, weights=self.weights[kind], minlength=self.parts)
        self.passes.tally(self)
        self.set_means()

    @property
    def indptr(self) -> Int64Array:
        """int64 [N+1]"""
        return self.adjacency.indptr

    @property
    def indices(self) -> IntArray:
        """int32 [E]"""
        return self.adjacency.indices

    @property
    def volume(self) -> int:
        """Rows sent by all parts."""
        return round(float(self.loads[-1].sum()))

    @property
    def cost(self) -> float:
        """Rows sent, each at its price."""
        if (self.price + np.eye(self.parts) == 1).all():
            return float(self.volume)
        paid = np.einsum("np,np->n", self.count > 0, self.price[self.part_of])
        return float(paid.sum())

    def set_means(self) -> None:
        """Take the present mean loads as the measure of every load."""
        mean = self.loads.mean(axis=1)
        self.per_mean[:] = np.where(mean > 0, 1.0 / np.maximum(mean, 1e-300), 0.0)
        self.unit = max(self.cost, self.nodes / FREE_NODES) / self.parts

    def worst_over_mean(self) -> Loads:
        """Largest over mean of each load, [K+2]."""
        worst: Loads = (self.loads * self.per_mean[:, None]).max(axis=1)
        return worst

    def anneal(self, proposals: int, hot: float, cold: float, seed: int) -> int:
        """Random moves at a temperature that falls from `hot` to `cold`, in rows; the moves made."""
        moves = self.passes.anneal(self, proposals, hot, cold, seed)
        self.set_means()
        return moves
