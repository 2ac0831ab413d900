"""METIS k-way through pymetis: several starts, each refined, the best kept.

Starts differ in seed and vertex weights (none: even node counts; work: arcs plus nodes). METIS's volume
objective is not worth its time as a start: on 12 million arcs and 8 parts it took 7.8 s and ended at 105,746
rows, its cut objective 0.8 s and 69,932. The reference for "no more volume than METIS" is the best start
without weights.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, Int64Array
from partition.assign.recipe import Progress, Recipe
from partition.assign.refined import refined_parts
from partition.graph import TRAIN, Graph
from partition.refine import PartOf, obstacle
from partition.stopping import at_once
from partition.volume import cut_arcs, total_volume

OBJECTIVE_CODES = {"cut": 0, "volume": 1}
LARGE_ARCS = 4_000_000
SMALL_STARTS, LARGE_STARTS = 4, 2


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """A kind of METIS run."""

    objective: str
    weights: Int64Array | None
    """Work of every node [N], to be evened out; None evens out node counts."""

    @property
    def evens(self) -> str:
        """What is evened out."""
        return "nodes" if self.weights is None else "work"


def metis_parts(graph: Graph, adjacency: Adjacency, recipe: Recipe, progress: Progress) -> PartOf:
    """Part of every node, int32 [N], from the symmetric adjacency; METIS may leave a part empty."""
    hindrance = obstacle(adjacency.num_nodes, adjacency.num_arcs, recipe.parts) if recipe.refine else "off"
    if recipe.objective == "cut" or hindrance:
        if hindrance not in ("", "off"):
            progress(f"no refinement: {hindrance}")
        return _lowest(graph, adjacency, recipe, progress)
    small = adjacency.num_arcs < LARGE_ARCS
    work = work_weights(adjacency, graph.split, recipe)
    kinds = [Kind("cut", None), Kind("cut", work)]
    most = recipe.starts or (SMALL_STARTS if small else LARGE_STARTS)
    starts = list(_starts(adjacency, recipe, kinds, most, progress))
    plain = sum(kind.weights is None for kind, _ in starts)
    return refined_parts(graph, adjacency, [part_of for _, part_of in starts], recipe, progress, plain=plain)


def metis_csr(
    adjacency: Adjacency,
    parts: int,
    *,
    objective: str = "cut",
    seed: int = 0,
    weights: Int64Array | None = None,
    edge_weights: Int64Array | None = None,
    imbalance: float = 1.03,
) -> PartOf:
    """METIS k-way of a symmetric adjacency; `weights` int64 [N] are balanced within `imbalance`."""
    if parts == 1:
        return np.zeros(adjacency.num_nodes, np.int32)
    import pymetis  # what trains on parts made elsewhere need not have it

    options = pymetis.Options(
        seed=(seed + 1) % 2**63,  # METIS hands it to srand, for which 0 and 1 are the same
        objtype=OBJECTIVE_CODES[objective],
        ufactor=max(1, round((imbalance - 1) * 1000)),
    )
    wide = pymetis.CSRAdjacency(adjacency.indptr, adjacency.with_indices(np.int64).indices)
    with at_once():
        result = pymetis.part_graph(
            parts, wide, vweights=weights, eweights=edge_weights, recursive=False, options=options
        )
    return np.asarray(result.vertex_part, dtype=np.int32)


def work_weights(adjacency: Adjacency, split: npt.NDArray[np.uint8], recipe: Recipe) -> Int64Array:
    """Work of every node, int64 [N], at least 1: arcs + node_work and train_work times the mean degree."""
    degree = adjacency.degree
    mean = max(1.0, float(degree.mean()))
    extra = recipe.node_work + recipe.train_work * (split == TRAIN)
    work: Int64Array = np.maximum(1, np.rint(degree + mean * extra)).astype(np.int64)
    return work


def _starts(
    adjacency: Adjacency, recipe: Recipe, kinds: list[Kind], most: int, progress: Progress
) -> Iterator[tuple[Kind, PartOf]]:
    """METIS with each kind in turn and ever new seeds, `most` times; those without weights come first."""
    wide = adjacency.with_indices(np.int64)
    turns = itertools.islice(((number, kind) for number in itertools.count() for kind in kinds), most)
    for done, (number, kind) in enumerate(sorted(turns, key=lambda turn: turn[1].weights is not None)):
        progress(f"METIS run {done + 1} of {most}: objective {kind.objective}, even {kind.evens}")
        yield (
            kind,
            metis_csr(
                wide,
                recipe.parts,
                objective=kind.objective,
                seed=recipe.seed * 1009 + number,
                weights=kind.weights,
                imbalance=recipe.imbalance,
            ),
        )


def _lowest(graph: Graph, adjacency: Adjacency, recipe: Recipe, progress: Progress) -> PartOf:
    """METIS alone, even node counts: the start with the lowest value of the objective."""
    objectives = ("cut",) if recipe.objective == "cut" else ("cut", "volume")
    kinds = [Kind(objective, None) for objective in objectives]
    lowest, best = None, np.zeros(0, np.int32)
    for kind, part_of in _starts(adjacency, recipe, kinds, max(1, recipe.starts) * len(kinds), progress):
        cut = recipe.objective == "cut"
        cost = cut_arcs(graph, part_of) if cut else total_volume(graph, part_of, recipe.parts)
        progress(f"METIS ({kind.objective}): {cost:,} {'arcs cut' if cut else 'rows sent'}")
        if lowest is None or cost < lowest:
            lowest, best = cost, part_of
    return best
