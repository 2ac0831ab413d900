"""Parts for graphs that METIS cannot hold: passes over the rows, and METIS on what they coarsen to.

Both read the CSR row after row, so that it may lie on disk, and keep some bytes per node in memory.

`streaming:fennel` (Tsourakakis et al., WSDM 2014) and `streaming:ldg` (Stanton and Kliot, KDD 2012), run
again and again over the same stream (Nishimura and Ugander, KDD 2013) until few nodes move. LDG is the
default: with several passes it sent fewer rows on nearly every graph tried. Fennel's penalty
alpha * gamma * |P|^(gamma - 1) with gamma = 3/2 and alpha = sqrt(k) m / n^1.5 is 1.5 (m / n) sqrt(x) in terms
of x = load over mean load, which is how it is computed here; load is work (arcs plus nodes), not nodes alone.

`coarse`: size-constrained label propagation (Meyerhenke, Sanders and Schulz, 2014) makes clusters, METIS cuts
the graph of the clusters with their work and the arcs between them as weights.
"""

from __future__ import annotations

import ctypes

import numpy as np

from partition.adjacency import Adjacency, Int64Array, row_numbers, splits_from_counts
from partition.assign.metis import metis_csr
from partition.assign.passes import Scoring, cluster_pass, compiled, stream_pass
from partition.assign.recipe import Progress, Recipe
from partition.errors import UserError
from partition.refine import PartOf

PASSES = 10
CLUSTER_PASSES = 4
CLUSTERS_PER_PART = 200
CHUNK_ARCS = 1 << 24
PYTHON_ARCS = 2_000_000


def stream_parts(adjacency: Adjacency, recipe: Recipe, progress: Progress) -> PartOf:
    """Part of every node, int32 [N], from passes over the symmetric adjacency, int32."""
    nodes, arcs = adjacency.num_nodes, adjacency.num_arcs
    extra = recipe.node_work * max(1.0, arcs / nodes)
    part_of: PartOf = np.full(nodes, -1, np.int32)
    load, size = np.zeros(recipe.parts), np.zeros(recipe.parts, np.int64)
    native = _native(arcs)
    how = Scoring(
        ldg=recipe.option != "fennel",
        extra=extra,
        share=recipe.parts / (arcs + extra * nodes),
        alpha=0.75 * arcs / nodes,
        cap=recipe.imbalance,
    )
    for number in range(PASSES):
        moved = stream_pass(adjacency, part_of, load, size, how, native)
        progress(f"{recipe.option or 'ldg'} pass {number + 1} of at most {PASSES}: {moved:,} nodes moved")
        if moved <= nodes // 100:
            break
    return part_of


def coarse_parts(adjacency: Adjacency, recipe: Recipe, progress: Progress) -> PartOf:
    """Part of every node, int32 [N]: METIS on the graph of clusters, which then belong together."""
    nodes, arcs = adjacency.num_nodes, adjacency.num_arcs
    extra = recipe.node_work * max(1.0, arcs / nodes)
    label, weight = np.arange(nodes, dtype=np.int32), adjacency.degree + np.float64(extra)
    cap = float(weight.sum()) / (recipe.parts * CLUSTERS_PER_PART)
    native = _native(arcs)
    for number in range(CLUSTER_PASSES):
        moved = cluster_pass(adjacency, label, weight, extra=extra, cap=cap, native=native)
        progress(f"clustering pass {number + 1} of at most {CLUSTER_PASSES}: {moved:,} nodes moved")
        if moved <= nodes // 50:
            break
    clusters, cluster_of = np.unique(label, return_inverse=True)
    if clusters.size < 4 * recipe.parts:
        raise UserError(
            f"--method coarse: {clusters.size} clusters for {recipe.parts} parts, but 4 per part are needed; "
            "use --method streaming or metis for so small a graph"
        )
    coarse, between = coarse_graph(adjacency, cluster_of, clusters.size)
    progress(f"METIS on {clusters.size:,} clusters with {coarse.num_arcs:,} arcs")
    part_of_cluster = metis_csr(
        coarse,
        recipe.parts,
        seed=recipe.seed * 1009,
        weights=np.maximum(1, weight[clusters]).astype(np.int64),
        edge_weights=between,
        imbalance=recipe.imbalance,
    )
    parts: PartOf = part_of_cluster[cluster_of]
    return parts


def coarse_graph(adjacency: Adjacency, cluster_of: Int64Array, clusters: int) -> tuple[Adjacency, Int64Array]:
    """Adjacency of the clusters and the number of arcs between each two: rows are read in chunks."""
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    indptr, indices = adjacency.indptr, adjacency.indices
    for start, stop in adjacency.stretches(arcs=CHUNK_ARCS):
        rows = cluster_of[start + row_numbers(indptr[start : stop + 1] - indptr[start])]
        columns = cluster_of[indices[indptr[start] : indptr[stop]]]
        crossing = rows != columns
        fresh, seen = np.unique(rows[crossing] * clusters + columns[crossing], return_counts=True)
        keys, counts = _added(keys, counts, fresh, seen)
    rows, columns = np.divmod(keys, clusters)
    return Adjacency(splits_from_counts(np.bincount(rows, minlength=clusters)), columns), counts


def _added(
    keys: Int64Array, counts: Int64Array, fresh: Int64Array, seen: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Union of two counted key lists."""
    union, place = np.unique(np.concatenate([keys, fresh]), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate([counts, seen]), minlength=union.size)
    return union, total.astype(np.int64)


def _native(arcs: int) -> ctypes.CDLL | None:
    native = compiled()
    if native.library is None and arcs > PYTHON_ARCS:
        raise UserError(
            f"{arcs:,} arcs are too many for streaming without compiled code: {native.note}; "
            "or use --method metis or random"
        )
    return native.library
