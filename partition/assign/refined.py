"""The best of several assignments after refinement."""

from __future__ import annotations

import numpy as np

from partition.adjacency import Adjacency
from partition.assign.recipe import Progress, Recipe
from partition.graph import Graph
from partition.refine import PartOf, Refined, load_weights, new_state, obstacle, refine
from partition.refine.state import Loads, State
from partition.volume import total_volume

SLOW_ARCS = 1_000_000
HEATS = (4.0, 16.0)
"""Of the starts in turn: what is good for one graph melts another."""


def refined_parts(
    graph: Graph,
    adjacency: Adjacency,
    starts: list[PartOf],
    recipe: Recipe,
    progress: Progress,
    *,
    plain: int = 0,
    prices: Loads | None = None,
) -> PartOf:
    """The refined start of the highest merit; the first start itself where refinement is off or impossible.

    Volume is measured against the lowest of the first `plain` starts (0 = of all): none above (1 + slack)
    times that is ever returned. `adjacency` is that of `graph`, made symmetric.

    Args:
        prices: [P, P] of a row from its owner to a reader; volume is then what all rows cost.
    """
    hindrance = obstacle(adjacency.num_nodes, adjacency.num_arcs, recipe.parts)
    if not recipe.refine or hindrance:
        if hindrance:
            progress(f"no refinement: {hindrance}")
        return starts[0]
    weights, narrow = load_weights(adjacency, graph.split), adjacency.with_indices(np.int32)

    def state_of(part_of: PartOf) -> State:
        return new_state(narrow, weights, part_of, recipe.parts, recipe.aims, prices)

    reference = round(min(state_of(part_of).cost for part_of in starts[: plain or None]))
    best: Refined | None = None
    for number, part_of in enumerate(starts):
        if adjacency.num_arcs > SLOW_ARCS:
            progress(f"refining start {number + 1} of {len(starts)}")
        found = refine(
            state_of(part_of),
            reference=reference,
            aims=recipe.aims,
            seed=recipe.seed + number,
            hot=HEATS[number % len(HEATS)],
        )
        if best is None or found.merit < best.merit:
            best = found
    assert best is not None
    if graph.directed:
        return _within_slack(graph, best.part_of, starts[: plain or None], recipe)
    shares = ", ".join(f"{name} {share:.3f}" for name, share in best.worst_over_mean.items())
    progress(f"refined: {reference:,} -> {best.volume:,} rows sent; worst over mean: {shares}")
    return best.part_of


def _within_slack(graph: Graph, part_of: PartOf, starts: list[PartOf], recipe: Recipe) -> PartOf:
    """`part_of`, or the best start where the arcs in their own direction say that too much would be sent."""
    lowest, start = min(
        ((total_volume(graph, start, recipe.parts), start) for start in starts), key=lambda pair: pair[0]
    )
    allowed = (1 + recipe.aims.slack) * lowest
    return part_of if total_volume(graph, part_of, recipe.parts) <= allowed else start
