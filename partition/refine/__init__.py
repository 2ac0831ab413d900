"""Refinement after METIS: fewer rows sent in all, by the worst part, and even work.

Single nodes move to a neighbouring part when that lowers

    rows sent by all parts + U * sum over loads m and parts p of
        strength[m] * max(0, x[m,p] - cap[m]) + pull * (x[m,p] - 1)^2,     x = load over mean load

with U = rows sent per part, so that all terms are in rows. Loads are nodes, arcs, training nodes, rows sent
and rows received. The strength grows from zero: the descent walks from the lowest volume to the best balance,
and of the states on its way the one with the least

    volume / reference + balance * sum over m of the worst part's excess over cap[m]

(rows sent and received in means of the reference, so that lowering the mean is not counted as an excess)

is kept, among those whose volume is at most (1 + slack) times the reference.

Volume counts each node once per part that reads it, which METIS's cut objective does not see, and its
volume objective only approximates. For a directed graph the arcs are taken in both directions here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency
from partition.errors import UserError
from partition.labels import TRAIN
from partition.refine import portable
from partition.refine.compiled import compiled, native
from partition.refine.state import Loads, State

PartOf = npt.NDArray[np.int32]
TABLE_BYTES = 4 << 30
PYTHON_ARCS = 400_000
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
NODE_STRENGTH = 8.0
SWEEPS = 8
KICKED_NEIGHBOURS = 20
LOADS = ("nodes", "arcs", "train", "sent", "received")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aims:
    """What a good assignment is."""

    nodes: float = 1.04
    """Nodes of the largest part over the mean part that are aimed at; so are the next four."""
    arcs: float = 1.03
    train: float = 1.04
    sent: float = 1.03
    received: float = 1.06
    balance: float = 0.5
    """Worth of evenness: one mean part too much in one load is this share of the reference volume."""
    slack: float = 0.02
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
) -> State:
    """State of an assignment, which it copies; the symmetric `adjacency` has int32 indices."""
    return State(
        adjacency=adjacency,
        weights=weights,
        part_of=part_of.copy(),
        cap=aims.caps,
        strength=np.zeros(len(LOADS)),
        parts=parts,
        passes=compiled() or portable,
    )


def measured(state: State, reference: int, aims: Aims) -> Refined:
    """`state` as it stands."""
    worst = state.worst_over_mean()
    allowed = state.volume <= (1 + aims.slack) * reference
    share = state.volume / max(1, reference)
    excess = np.maximum(0.0, worst - state.cap) * ([1.0] * state.kinds + [share, share])
    merit = share + aims.balance * float(excess.sum())
    shares = dict(zip(LOADS, worst.tolist(), strict=True))
    return Refined(state.part_of.copy(), state.volume, merit if allowed else np.inf, shares)


def refine(state: State, *, reference: int, aims: Aims, seed: int = 0, kicks: int = 0) -> Refined:
    """The best state found on the way down from `state`, itself included; changes `state`.

    After each descent, `kicks` times, the best state is kicked: a few of its nodes move to another part that
    they have neighbours in, and the descent starts again from there.
    """
    rng = np.random.default_rng([seed, 0x5EEB])
    best = _descend(state, measured(state, reference, aims), reference, aims, rng)
    for _ in range(kicks):
        state.restart(_kicked(state, best.part_of, rng))
        best = _descend(state, best, reference, aims, rng)
    return best


def _descend(state: State, best: Refined, reference: int, aims: Aims, rng: np.random.Generator) -> Refined:
    for strength in STRENGTHS:
        state.strength[:] = strength
        state.strength[0] = NODE_STRENGTH
        state.dirty[:] = 1
        for _ in range(SWEEPS):
            moves = state.sweep(int(rng.integers(state.nodes)))
            state.set_means()
            found = measured(state, reference, aims)
            if found.merit < best.merit - 1e-9:
                best = found
            if moves <= state.nodes // 5_000:
                break
        if strength >= 1 and (state.worst_over_mean() <= state.cap).all():
            break
    return best


def _kicked(state: State, part_of: PartOf, rng: np.random.Generator) -> PartOf:
    """`part_of` with some boundary nodes and their neighbours moved together to a part that they read."""
    state.restart(part_of)
    reads = state.count > 0
    reads[np.arange(state.nodes), part_of] = False
    boundary = np.flatnonzero(reads.any(axis=1))
    kicked: PartOf = part_of.copy()
    if boundary.size == 0:
        return kicked
    for node in rng.choice(boundary, max(1, boundary.size // 100)):
        target = rng.choice(np.flatnonzero(reads[node]))
        near = state.indices[state.indptr[node] : state.indptr[node + 1]][:KICKED_NEIGHBOURS]
        kicked[near[part_of[near] == part_of[node]]] = target
        kicked[node] = target
    return kicked if np.bincount(kicked, minlength=state.parts).min() > 0 else part_of.copy()
