"""Which part owns which node; the methods are in recipe.py.

Every method gives every part at least one node: `assign` sees to it.

Shapes:
    N nodes   P parts
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from partition.assign.given import checked_parts, given_parts
from partition.assign.kahypar import kahypar_parts
from partition.assign.machines import machine_parts
from partition.assign.metis import metis_parts, work_weights
from partition.assign.random import balanced_random
from partition.assign.recipe import METHODS, OBJECTIVES, Objective, Progress, Recipe
from partition.assign.refined import refined_parts
from partition.assign.streaming import coarse_parts, stream_parts
from partition.errors import UserError
from partition.graph import Graph
from partition.refine import PartOf

KAHYPAR_REFINED = 2
"""How often its one cut is refined, from another temperature each time."""


def assign(graph: Graph, recipe: Recipe, progress: Progress) -> PartOf:
    """Part of every node, int32 [N]; every part owns at least one node."""
    if recipe.parts > graph.num_nodes:
        raise UserError(
            f"{recipe.parts} parts for {graph.num_nodes} nodes: every part needs a node; "
            f"use --parts {graph.num_nodes} or fewer"
        )
    if recipe.parts == 1:
        return np.zeros(graph.num_nodes, np.int32)
    return every_part_filled(_assigned(graph, recipe, progress), graph, recipe.parts)


def _assigned(graph: Graph, recipe: Recipe, progress: Progress) -> PartOf:
    if recipe.kind == "random":
        return balanced_random(graph.num_nodes, recipe.parts, recipe.seed)
    if recipe.kind == "file":
        return given_parts(Path(recipe.option).expanduser(), graph.num_nodes, recipe.parts)
    if recipe.kind == "source":
        if graph.part_of is None:
            raise UserError(f"--method source: {graph.name} did not come in parts; use --method metis")
        return checked_parts(graph.source or graph.name, graph.part_of, graph.num_nodes, recipe.parts)
    adjacency = graph.adjacency.undirected() if graph.directed else graph.adjacency
    if adjacency.num_arcs == 0:
        return (np.arange(graph.num_nodes) * recipe.parts // graph.num_nodes).astype(np.int32)
    if 1 < recipe.hosts < recipe.parts:
        wide = dataclasses.replace(recipe, parts=recipe.hosts, hosts=1)
        return machine_parts(graph, adjacency, assign(graph, wide, progress), recipe, progress)
    if recipe.kind == "metis":
        return metis_parts(graph, adjacency, recipe, progress)
    if recipe.kind == "kahypar":
        start = kahypar_parts(adjacency, work_weights(adjacency, graph.split, recipe), recipe, progress)
        return refined_parts(graph, adjacency, [start] * (recipe.starts or KAHYPAR_REFINED), recipe, progress)
    if graph.num_nodes > np.iinfo(np.int32).max:
        raise UserError(f"--method {recipe.method}: {graph.num_nodes:,} nodes; at most {2**31 - 1:,} fit")
    method = stream_parts if recipe.kind == "streaming" else coarse_parts
    adjacency = adjacency.with_indices(np.int32)
    return refined_parts(graph, adjacency, [method(adjacency, recipe, progress)], recipe, progress)


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


__all__ = [
    "METHODS",
    "OBJECTIVES",
    "Objective",
    "PartOf",
    "Progress",
    "Recipe",
    "assign",
    "every_part_filled",
]
