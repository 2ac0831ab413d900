"""Mt-KaHyPar (Gottesbüren et al., SEA 2023) as the first cut, where its package is installed.

One net is a node and its readers: the objective KM1, connectivity less one over all nets, is the rows sent
per layer. Vertices weigh their work, arcs plus nodes, so that parts are even in it. Two runs need not
give the same cut, with one thread and one seed either; only the presets called deterministic do, which took
twice the default's time. The preset for many parts took a third of it, for rows within a few in a hundred,
which the refinement finds again.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from partition.adjacency import Adjacency
from partition.assign.recipe import Progress, Recipe
from partition.errors import UserError
from partition.optional import optional
from partition.refine import PartOf
from partition.stopping import at_once

IMBALANCE = 0.03
MOST_PINS = 200_000_000
"""Nets are handed over as Python lists: 50 bytes a pin."""


def kahypar_parts(adjacency: Adjacency, weights: Any, recipe: Recipe, progress: Progress) -> PartOf:
    """Part of every node, int32 [N], from the symmetric adjacency and the work of every node.

    Raises:
        UserError: mtkahypar is not installed, or the graph is too large for its lists.
    """
    pins = adjacency.num_arcs + adjacency.num_nodes
    if pins > MOST_PINS:
        raise UserError(f"--method kahypar: {pins:,} pins, at most {MOST_PINS:,} fit; use --method metis")
    library, threads = optional("mtkahypar"), _threads()
    progress(f"Mt-KaHyPar: {adjacency.num_nodes:,} nets, {pins:,} pins")
    nets = [
        [node, *adjacency.indices[first:last].tolist()]
        for node, (first, last) in enumerate(
            zip(adjacency.indptr[:-1].tolist(), adjacency.indptr[1:].tolist(), strict=True)
        )
    ]
    with at_once():
        context = threads.context_from_preset(library.PresetType.LARGE_K)
        context.set_partitioning_parameters(recipe.parts, IMBALANCE, library.Objective.KM1)
        context.logging = False
        library.set_seed(recipe.seed % 2**31)
        graph = threads.create_hypergraph(
            context, len(nets), len(nets), nets, weights.tolist(), [1] * len(nets)
        )
        return np.asarray(graph.partition(context).get_partition(), np.int32)


@functools.cache
def _threads() -> Any:
    """Mt-KaHyPar's pool: made once a process."""
    return optional("mtkahypar").initialize(1)
