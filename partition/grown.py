"""Parts of another graph for a trained model: cut as the graph of the training where the nodes are the same.

A grown graph has the old nodes first, under their old ids. Each new node goes where most of its
neighbours are. Any other graph is cut anew; what a model computes does not depend on the cut.

Shapes:
    N nodes   P parts
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from partition.adjacency import row_entries, row_numbers
from partition.assign import PartOf, Progress, Recipe
from partition.build import build_parts
from partition.graph import Graph
from partition.manifest import Manifest, read_manifest
from partition.scaling import Scaling, check_same_scaling
from partition.store import read_array

SAMPLE = 2_000
"""Arcs of the old graph that are looked for in the new one."""
ROUNDS = 20
"""A new node may be this many steps from the old ones before it goes where there is most room."""


def cut_like(graph: Graph, trained: Path, out: Path, progress: Progress) -> None:
    """Write parts of `graph` to the new folder `out`, as many as the folder `trained` has."""
    manifest = read_manifest(trained)
    recipe = Recipe(parts=manifest.parts)
    if is_grown(graph, trained, manifest):
        progress(f"{graph.num_nodes - manifest.num_nodes:,} new nodes join the parts of {trained}")
        graph = dataclasses.replace(graph, part_of=grown_assignment(graph, trained, manifest))
        recipe = Recipe(parts=manifest.parts, method="source")
    build_parts(graph, recipe, out=out, progress=progress)


def scaled_like(graph: Graph, scaling: Scaling | None, where: str) -> Graph:
    """`graph` with features scaled as those of a training were, by its statistics.

    Raises:
        UserError: they are scaled otherwise already.
    """
    if graph.scaling is None and scaling is not None:
        return graph.scaled(scaling)
    check_same_scaling(scaling, graph.scaling, where)
    return graph


def is_grown(graph: Graph, trained: Path, manifest: Manifest) -> bool:
    """Whether `graph` has the nodes of the parts and at most as many others: most arcs sampled are there."""
    if not manifest.num_nodes <= graph.num_nodes <= 2 * manifest.num_nodes:
        return False
    indptr, indices, nodes = (
        read_array(trained, manifest, 0, name, verify=False)
        for name in ("inner_indptr", "inner_indices", "node_ids")
    )
    if indices.size == 0:
        return True
    chosen = np.unique(np.linspace(0, indices.size - 1, SAMPLE).astype(np.int64))
    sources = nodes[indices[chosen]]
    targets = nodes[np.searchsorted(indptr, chosen, side="right") - 1]
    splits, entries = row_entries(graph.indptr, targets)
    found = graph.indices[entries] == np.repeat(sources, np.diff(splits))
    return bool(2 * found.sum() >= chosen.size)


def grown_assignment(graph: Graph, trained: Path, manifest: Manifest) -> PartOf:
    """Part of every node, int32 [N]: old nodes as they were, new ones by their neighbours."""
    part_of = np.full(graph.num_nodes, -1, np.int32)
    for part in range(manifest.parts):
        part_of[read_array(trained, manifest, part, "node_ids", verify=False)] = part
    waiting = np.arange(manifest.num_nodes, graph.num_nodes)
    for _ in range(ROUNDS):
        if waiting.size == 0:
            break
        splits, entries = row_entries(graph.indptr, waiting)
        theirs = part_of[graph.indices[entries]]
        known = theirs >= 0
        keys = row_numbers(splits)[known].astype(np.int64) * manifest.parts + theirs[known]
        votes, counts = np.unique(keys, return_counts=True)
        order = np.lexsort((counts, votes // manifest.parts))
        rows = (votes // manifest.parts)[order]
        last = np.flatnonzero(np.diff(rows, append=-1))
        part_of[waiting[rows[last]]] = (votes % manifest.parts)[order[last]]
        waiting = waiting[part_of[waiting] < 0]
    sizes = np.bincount(part_of[part_of >= 0], minlength=manifest.parts)
    part_of[waiting] = np.argmin(sizes)
    return part_of
