"""anneal.c in Python, number for number: for machines without a compiler, and the test of the C."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from partition.adjacency import IntArray
from partition.refine.state import State

Changes = npt.NDArray[np.int64]
WORD, HALF = (1 << 64) - 1, (1 << 32) - 1


def tally(state: State) -> None:
    """Fill `count`, the rows sent and the rows received."""
    rows = np.repeat(np.arange(state.nodes), np.diff(state.indptr))
    key = rows * state.parts + state.part_of[state.indices]
    state.count[:] = np.bincount(key, minlength=state.nodes * state.parts).reshape(state.nodes, state.parts)
    read = state.count > 0
    read[np.arange(state.nodes), state.part_of] = False
    state.count[np.arange(state.nodes), state.part_of] += 1
    state.loads[-2] = np.bincount(state.part_of, weights=read.sum(axis=1), minlength=state.parts)
    state.loads[-1] = read.sum(axis=0)


def anneal(state: State, proposals: int, hot: float, cold: float, seed: int) -> int:
    """Random moves at a temperature that falls from `hot` to `cold`; the number of moves made."""
    moves, step = 0, (cold - hot) / max(1, proposals)
    for number in range(proposals):
        seed, draw = _next_random(seed)
        node = (draw >> 32) * state.nodes >> 32
        own, part = int(state.part_of[node]), _proposed(state, node, draw & HALF)
        if part == own:
            continue
        delta, change, received = _try_move(state, node, own, part)
        if delta > 0.0:
            heat = hot + step * number
            seed, draw = _next_random(seed)
            if delta >= heat * float(state.patience[draw >> 54]):
                continue
        _move(state, node, own, part, change, received)
        moves += 1
    return moves


def _next_random(seed: int) -> tuple[int, int]:
    """The next state of splitmix64, and what it draws."""
    seed = (seed + 0x9E3779B97F4A7C15) & WORD
    mixed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & WORD
    return seed, mixed ^ (mixed >> 31)


def _proposed(state: State, node: int, draw: int) -> int:
    """The part of a random neighbour, or any where there is none; the node's own where it may not leave."""
    near, own = _neighbours(state, node), int(state.part_of[node])
    if state.size[own] <= 1 or state.count[node, own] > near.size:
        return own if near.size or state.size[own] <= 1 else draw * state.parts >> 32
    return int(state.part_of[near[draw * near.size >> 32]])


def _neighbours(state: State, node: int) -> IntArray:
    return state.indices[state.indptr[node] : state.indptr[node + 1]]


def _try_move(state: State, node: int, own: int, part: int) -> tuple[float, Changes, tuple[int, int]]:
    """Change of the objective by the move, of the rows each part sends, and of those that both receive."""
    reads = state.count[node] > 0
    stays = reads.copy()
    stays[own] = state.count[node, own] > 1
    delta = 0.0
    for reader in range(state.parts):  # the node's own row: to whom it goes, from `part` instead of `own`
        now, then = int(reads[reader]), int(stays[reader])
        delta += then * float(state.price[part, reader]) - now * float(state.price[own, reader])
    change: Changes = np.zeros(state.parts, np.int64)
    saved = fresh = 0
    for near in _neighbours(state, node):
        owner = int(state.part_of[near])
        if state.count[near, own] == 1:
            change[owner] -= 1
            delta -= float(state.price[owner, own])
            saved += 1
        if state.count[near, part] == 0:
            change[owner] += 1
            delta += float(state.price[owner, part])
            fresh += 1
    others = int(reads.sum()) - int(reads[own]) - int(reads[part])
    change[own] -= others + int(reads[part])
    change[part] += others + int(stays[own])
    received = (int(stays[own]) - saved, fresh - int(reads[part]))
    return delta + state.unit * _penalty(state, node, own, part, change, received), change, received


def _penalty(
    state: State, node: int, own: int, part: int, change: Changes, received: tuple[int, int]
) -> float:
    """Change of what uneven loads cost, in units."""
    penalty = 0.0
    for kind in range(state.kinds):
        weight = float(state.weights[kind, node])
        if weight:
            penalty += _shift_cost(state, kind, own, -weight)
            penalty += _shift_cost(state, kind, part, weight)
    for changed in np.flatnonzero(change):
        penalty += _shift_cost(state, state.kinds, int(changed), float(change[changed]))
    penalty += _shift_cost(state, state.kinds + 1, own, float(received[0]))
    penalty += _shift_cost(state, state.kinds + 1, part, float(received[1]))
    return penalty


def _move(state: State, node: int, own: int, part: int, change: Changes, received: tuple[int, int]) -> None:
    state.loads[state.kinds] += change
    state.loads[state.kinds + 1, [own, part]] += received
    state.loads[: state.kinds, own] -= state.weights[:, node]
    state.loads[: state.kinds, part] += state.weights[:, node]
    state.size[own] -= 1
    state.size[part] += 1
    state.part_of[node] = part
    both = np.append(_neighbours(state, node), node)
    state.count[both, own] -= 1
    state.count[both, part] += 1


def _shift_cost(state: State, kind: int, part: int, by: float) -> float:
    load = float(state.loads[kind, part])
    return _cost(state, kind, load + by) - _cost(state, kind, load)


def _cost(state: State, kind: int, load: float) -> float:
    share = load * float(state.per_mean[kind])
    over = share - float(state.cap[kind])
    off = share - 1.0
    return (float(state.strength[kind]) * over if over > 0.0 else 0.0) + state.pull * off * off
