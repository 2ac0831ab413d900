"""Which part owns which node: METHOD strings, one grammar and one registry.

    metis        METIS k-way                     random       balanced, seeded

Every method gives every part at least one node; `partition.assign.assign` sees to it.

Shapes:
    N nodes   P parts
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from partition.assign.metis import metis
from partition.assign.random import balanced_random
from partition.graph import Graph
from partition.sources import nearest
from partition.volume import total_volume

Objective = Literal["volume", "cut"]
Progress = Callable[[str], None]
PartOf = npt.NDArray[np.int32]

METHODS = ("metis", "random")
OBJECTIVES = ("volume", "cut")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How nodes are assigned; checked before the graph is read."""

    parts: int
    method: str = "metis"
    objective: Objective = "volume"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise ValueError(f"--parts {self.parts}: there must be at least 1 part")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed} is negative; use 0 or more")
        if self.kind not in METHODS:
            raise ValueError(
                f"unknown partition method '{self.method}'{nearest(self.kind, METHODS)}; "
                f"there are: {', '.join(METHODS)}"
            )
        if self.objective not in OBJECTIVES:
            raise ValueError(f"unknown objective '{self.objective}'; there are: {', '.join(OBJECTIVES)}")

    @property
    def kind(self) -> str:
        """The method without its options."""
        return self.method.partition(":")[0]


def assign(graph: Graph, recipe: Recipe, progress: Progress) -> PartOf:
    """Part of every node, int32 [N]; every part owns at least one node."""
    if recipe.parts > graph.num_nodes:
        raise ValueError(
            f"{recipe.parts} parts for {graph.num_nodes} nodes: every part needs a node; "
            f"use --parts {graph.num_nodes} or fewer"
        )
    if recipe.parts == 1:
        return np.zeros(graph.num_nodes, np.int32)
    if recipe.kind == "random":
        part_of = balanced_random(graph.num_nodes, recipe.parts, recipe.seed)
    else:
        part_of = metis(graph, recipe.parts, objective=recipe.objective, seed=recipe.seed, progress=progress)
    return every_part_filled(part_of, graph, recipe.parts)


def every_part_filled(part_of: PartOf, graph: Graph, parts: int) -> PartOf:
    """`part_of` with the empty parts given the least connected nodes of the largest ones."""
    sizes = np.bincount(part_of, minlength=parts)
    empty = np.flatnonzero(sizes == 0)
    if empty.size == 0:
        return part_of
    filled: PartOf = part_of.copy()
    degree = np.diff(graph.indptr)
    for part in empty:
        largest = int(np.argmax(sizes))
        members = np.flatnonzero(filled == largest)
        filled[members[np.argmin(degree[members])]] = part
        sizes[largest] -= 1
        sizes[part] = 1
    return filled


__all__ = ["METHODS", "OBJECTIVES", "Objective", "PartOf", "Progress", "Recipe", "assign", "total_volume"]
