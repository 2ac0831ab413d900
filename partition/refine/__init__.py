"""Refinement after a first cut: fewer rows sent in all, by the worst part, and even work.

Single nodes move to the part of a neighbour. A move is judged by what it changes in

    rows sent by all parts + U * sum over loads m and parts p of
        strength[m] * max(0, x[m,p] - cap[m]) + pull * (x[m,p] - 1)^2,     x = load over mean load

with U = rows sent per part, so that all terms are in rows. Loads are nodes, arcs, training nodes, rows sent
and rows received. A node's rows are counted exactly: one for each part that reads it (connectivity less one
of the net of a node and its readers), which METIS's cut objective does not see and its volume objective only
approximates. For a directed graph the arcs are taken in both directions here.

The search is annealing (Kirkpatrick et al., Science 1983): a move that costs rows is made too while it costs
less than a random multiple of the temperature, which falls from a few rows to none. So whole groups of nodes
cross a ridge that a descent never does. At the end the penalties double, and double again: the last pass
trades rows for the largest part. Of the states on the way the one with the least

    volume / reference + balance * sum over m of worth[m] * the worst part's excess over cap[m]

(rows sent and received in means of the reference, so that lowering the mean is not counted as an excess)

is kept, among those whose volume is at most (1 + slack) times the reference.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency
from partition.errors import UserError
from partition.labels import TRAIN
from partition.refine import portable
from partition.refine.compiled import compiled, native
from partition.refine.state import FREE_NODES, Loads, State

PartOf = npt.NDArray[np.int32]
TABLE_BYTES = 4 << 30
PYTHON_ARCS, PYTHON_PER_NODE = 100_000, 20
HOT, COLD, ROUNDS = 16.0, 0.5, 40
"""Temperatures in rows, and into how many steps the way from one to the other is cut."""
TRADES = (1.0, 2.0, 4.0)
TOUCHES, MOST_PER_NODE, LEAST_PER_NODE = 120_000_000, 1_000, 60
"""Proposals: about `TOUCHES` entries looked at, within a number for each node."""
PROPOSALS_PER_HEAT = 30
"""Of each node, for each row of the first temperature: what cools too fast ends above where it began."""
WORTH = (1.0, 1.0, 1.0, 1.0, 0.3)
"""Of one mean part too much in each load, by `balance`; rows received weigh less: sending is what waits."""
LOADS = ("nodes", "arcs", "train", "sent", "received")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aims:
    """What a good assignment is."""

    nodes: float = 1.15
    """Nodes of the largest part over the mean part that are aimed at; so are the next four."""
    arcs: float = 1.04
    train: float = 1.15
    sent: float = 1.1
    received: float = 1.25
    balance: float = 0.6
    """Worth of evenness: one mean part too much in one load is this share of the reference volume."""
    slack: float = 0.2
    """Volume above the reference that is never exceeded, as a share of it."""

    def __post_init__(self) -> None:
        for name in (*LOADS, "balance", "slack"):
            low = 1.0 if name in LOADS else 0.0
            if not getattr(self, name) >= low:
                raise UserError(f"refinement: {name}={getattr(self, name)} is too small; use {low} or more")

    @property
    def caps(self) -> Loads:
        """[5] in the order of LOADS."""
        return np.array([getattr(self, name) for name in LOADS])

    def strength(self, parts: int) -> Loads:
        """[5] of the penalties: what the worst of `parts` parts has too much is worth `balance`."""
        return self.balance * parts * np.array(WORTH)


@dataclasses.dataclass(frozen=True, eq=False)
class Refined:
    """An assignment and what it is worth."""

    part_of: PartOf
    volume: int
    merit: float
    """The less, the better; infinite beyond the slack."""
    worst_over_mean: dict[str, float]


def obstacle(nodes: int, arcs: int, parts: int) -> str:
    """Why a graph of this size cannot be refined here; empty when it can."""
    if nodes * parts * 4 > TABLE_BYTES or nodes > np.iinfo(np.int32).max:
        return f"its table of {nodes:,} x {parts} counts would exceed {TABLE_BYTES >> 30} GiB"
    if arcs > PYTHON_ARCS and compiled() is None:
        return f"{arcs:,} arcs are too many without compiled code: {native().note}"
    return ""


def load_weights(adjacency: Adjacency, split: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What each node adds to the loads nodes, arcs, training nodes: float32 [3, N]."""
    return np.stack([np.ones(split.size), adjacency.degree, split == TRAIN]).astype(np.float32)


def new_state(
    adjacency: Adjacency,
    weights: npt.NDArray[np.float32],
    part_of: PartOf,
    parts: int,
    aims: Aims,
    price: Loads | None = None,
) -> State:
    """State of an assignment, which it copies; the symmetric `adjacency` has int32 indices.

    Args:
        price: [P, P] of a row from its owner to a reader, 0 on the diagonal; 1 where none is given.
    """
    return State(
        adjacency=adjacency,
        weights=weights,
        part_of=part_of.copy(),
        cap=aims.caps,
        strength=aims.strength(parts),
        price=1.0 - np.eye(parts) if price is None else price,
        parts=parts,
        passes=compiled() or portable,
    )


def measured(state: State, reference: int, aims: Aims) -> Refined:
    """`state` as it stands."""
    worst = state.worst_over_mean()
    least = max(1, reference, state.nodes // FREE_NODES)
    share = state.cost / least
    excess = np.maximum(0.0, worst - state.cap) * WORTH
    excess[state.kinds :] *= state.volume / least
    allowed = share <= 1 + aims.slack
    merit = share + aims.balance * float(excess.sum())
    shares = dict(zip(LOADS, worst.tolist(), strict=True))
    return Refined(state.part_of.copy(), state.volume, merit if allowed else np.inf, shares)


def refine(state: State, *, reference: int, aims: Aims, seed: int = 0, hot: float = HOT) -> Refined:
    """The best state found on the way down from `state`, itself included; changes `state`."""
    rng = np.random.default_rng([seed, 0x5EEB])
    best = measured(state, reference, aims)
    proposals = -(-proposals_for(state) // ROUNDS)
    hot = max(COLD, min(hot, proposals * ROUNDS / state.nodes / PROPOSALS_PER_HEAT))
    heats = [*np.geomspace(hot, COLD, ROUNDS + 1), *([0.0] * (ROUNDS // 10 * len(TRADES)))]
    for number, (warm, cool) in enumerate(itertools.pairwise(heats)):
        trade = max(0, number - ROUNDS) * 10 // ROUNDS
        state.strength[:] = aims.strength(state.parts) * TRADES[trade]
        state.anneal(proposals, float(warm), float(cool), int(rng.integers(1 << 62)))
        if number >= ROUNDS // 2:
            found = measured(state, reference, aims)
            best = found if found.merit < best.merit - 1e-9 else best
    return best


def proposals_for(state: State) -> int:
    """Moves to be looked at; few where Python looks at them."""
    if state.passes is portable:
        return PYTHON_PER_NODE * state.nodes
    touched = 1 + state.indices.size // max(1, state.nodes)
    return max(LEAST_PER_NODE * state.nodes, min(MOST_PER_NODE * state.nodes, TOUCHES // touched))
