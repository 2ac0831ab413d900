"""Parts for several machines: cut for the machines first, then for the workers of each.

Worker r runs on machine r // (workers a machine), as torchrun numbers them, and so does part r. Rows
between two parts of one machine stay in its memory; those between machines cross a link that all of its
workers share. So the machines' shares are cut from the graph as parts are, each share is cut by METIS, and
all parts are refined together, with a row between machines as dear as DEAR rows inside one.

Shapes:
    N nodes   P parts
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, row_entries, splits_from_counts
from partition.assign.metis import metis_csr, work_weights
from partition.assign.recipe import Progress, Recipe
from partition.assign.refined import refined_parts
from partition.graph import Graph
from partition.refine import PartOf

DEAR = 8.0
STARTS = 2


def machine_prices(parts: int, hosts: int) -> npt.NDArray[np.float64]:
    """What a row costs from owner to reader, [P, P]: 0 at home, 1 inside a machine, DEAR between two."""
    host = np.arange(parts) // (parts // hosts)
    prices: npt.NDArray[np.float64] = np.where(host[:, None] == host, 1.0, DEAR)
    np.fill_diagonal(prices, 0.0)
    return prices


def machine_parts(
    graph: Graph, adjacency: Adjacency, host_of: PartOf, recipe: Recipe, progress: Progress
) -> PartOf:
    """Part of every node, int32 [N], from the machine of every node and the symmetric adjacency."""
    progress(f"cutting the share of each of {recipe.hosts} machines")
    starts = [
        _inside(graph, adjacency, host_of, dataclasses.replace(recipe, seed=(recipe.seed + number) % 2**63))
        for number in range(STARTS if recipe.refine else 1)
    ]
    prices = machine_prices(recipe.parts, recipe.hosts)
    return refined_parts(graph, adjacency, starts, recipe, progress, prices=prices)


def _inside(graph: Graph, adjacency: Adjacency, host_of: PartOf, recipe: Recipe) -> PartOf:
    """METIS on each machine's share, even in work."""
    workers = recipe.parts // recipe.hosts
    part_of: PartOf = np.zeros(graph.num_nodes, np.int32)
    for host in range(recipe.hosts):
        nodes = np.flatnonzero(host_of == host)
        share = _share(adjacency, nodes, host_of == host)
        weights = work_weights(share, graph.split[nodes], recipe)
        inside = (
            metis_csr(share, workers, seed=recipe.seed, weights=weights, imbalance=recipe.imbalance)
            if share.num_arcs and nodes.size >= workers
            else np.arange(nodes.size) * workers // max(1, nodes.size)
        )
        part_of[nodes] = host * workers + inside
    return part_of


def _share(adjacency: Adjacency, nodes: npt.NDArray[np.int64], of: npt.NDArray[np.bool_]) -> Adjacency:
    """The arcs between `nodes`, those of which `of` is true."""
    splits, entries = row_entries(adjacency.indptr, nodes)
    sources = adjacency.indices[entries]
    inside = of[sources]
    local = np.cumsum(of, dtype=np.int64) - 1
    return Adjacency(splits_from_counts(inside)[splits], local[sources[inside]])
