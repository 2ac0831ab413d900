"""sweep.c in Python, number for number: for machines without a compiler, and the test of the C."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from partition.adjacency import IntArray
from partition.refine.state import State

Changes = npt.NDArray[np.int64]


def tally(state: State) -> None:
    """Fill `count`, the rows sent and the rows received."""
    rows = np.repeat(np.arange(state.nodes), np.diff(state.indptr))
    key = rows * state.parts + state.part_of[state.indices]
    state.count[:] = np.bincount(key, minlength=state.nodes * state.parts).reshape(state.nodes, state.parts)
    read = state.count > 0
    read[np.arange(state.nodes), state.part_of] = False
    state.loads[-2] = np.bincount(state.part_of, weights=read.sum(axis=1), minlength=state.parts)
    state.loads[-1] = read.sum(axis=0)


def sweep(state: State, first: int) -> int:
    """Best move of every dirty node, in order from `first`; the number of moves."""
    moves = 0
    for step in range(state.nodes):
        node = (first + step) % state.nodes
        if not state.dirty[node]:
            continue
        state.dirty[node] = 0
        own = int(state.part_of[node])
        if state.size[own] <= 1:
            continue
        near = _neighbours(state, node)
        best, lowest = -1, -1e-9
        for part in range(state.parts):
            if part != own and (state.count[node, part] > 0 or near.size == 0):
                gain, _, _ = _try_move(state, node, near, own, part)
                if gain < lowest:
                    best, lowest = part, gain
        if best >= 0:
            _move(state, node, near, own, best)
            moves += 1
    return moves


def _neighbours(state: State, node: int) -> IntArray:
    return state.indices[state.indptr[node] : state.indptr[node + 1]]


def _try_move(
    state: State, node: int, near: IntArray, own: int, part: int
) -> tuple[float, Changes, tuple[int, int]]:
    """Change of the objective by the move, of the rows each part sends, and of those that both receive."""
    owner = state.part_of[near]
    last = near[(owner != own) & (state.count[near, own] == 1)]
    fresh = near[(owner != part) & (state.count[near, part] == 0)]
    change: Changes = np.bincount(state.part_of[fresh], minlength=state.parts).astype(np.int64)
    change -= np.bincount(state.part_of[last], minlength=state.parts)
    reads = state.count[node] > 0
    others = int(reads.sum()) - int(reads[own]) - int(reads[part])
    change[own] -= others + int(reads[part])
    change[part] += others + int(reads[own])
    received = (int(reads[own]) - last.size, fresh.size - int(reads[part]))
    penalty = 0.0
    for kind in range(state.kinds):
        weight = float(state.weights[kind, node])
        penalty += _shift_cost(state, kind, own, -weight)
        penalty += _shift_cost(state, kind, part, weight)
    for changed in np.flatnonzero(change):
        penalty += _shift_cost(state, state.kinds, int(changed), float(change[changed]))
    penalty += _shift_cost(state, state.kinds + 1, own, float(received[0]))
    penalty += _shift_cost(state, state.kinds + 1, part, float(received[1]))
    return sum(received) + state.unit * penalty, change, received


def _move(state: State, node: int, near: IntArray, own: int, part: int) -> None:
    _, change, received = _try_move(state, node, near, own, part)
    state.loads[state.kinds] += change
    state.loads[state.kinds + 1, [own, part]] += received
    state.loads[: state.kinds, own] -= state.weights[:, node]
    state.loads[: state.kinds, part] += state.weights[:, node]
    state.size[own] -= 1
    state.size[part] += 1
    state.part_of[node] = part
    state.count[near, own] -= 1
    state.count[near, part] += 1
    state.dirty[near] = 1
    state.dirty[node] = 1


def _shift_cost(state: State, kind: int, part: int, by: float) -> float:
    load = float(state.loads[kind, part])
    return _cost(state, kind, load + by) - _cost(state, kind, load)


def _cost(state: State, kind: int, load: float) -> float:
    share = load * float(state.per_mean[kind])
    over = share - float(state.cap[kind])
    off = share - 1.0
    return (float(state.strength[kind]) * over if over > 0.0 else 0.0) + state.pull * off * off
