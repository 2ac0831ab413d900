"""Refinement: the compiled annealing against its Python twin, its books, its promises."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import partition.refine
from partition.assign import Recipe, assign
from partition.assign.metis import metis_csr
from partition.graph import Graph
from partition.native import Native
from partition.refine import Aims, load_weights, measured, new_state, obstacle, refine
from partition.refine import portable as portable_passes
from partition.refine.compiled import compiled
from partition.refine.state import State
from partition.sources import load
from partition.volume import total_volume, volume_matrix
from tests.partition.graphs import random_arcs, random_graph

COMMUNITIES = "synthetic:nodes=1500,degree=10,features=4,classes=3,communities=25,between=0.2"
needs_compiler = pytest.mark.skipif(compiled() is None, reason="no C compiler here")


def state_of(graph: Graph, part_of: np.ndarray, parts: int, *, portable: bool = False) -> State:
    weights = load_weights(graph.adjacency, graph.split)
    state = new_state(graph.adjacency, weights, part_of, parts, Aims())
    if portable:
        state.passes = portable_passes
    return state


def books(state: State) -> tuple[np.ndarray, ...]:
    return state.part_of, state.count, state.loads, state.size


@needs_compiler
@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    parts=st.integers(2, 5),
    arcs=st.integers(0, 90),
    strength=st.sampled_from((0.0, 1.0, 8.0)),
)
def test_compiled_and_python_moves_are_the_same(seed: int, parts: int, arcs: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, random_arcs(rng, 24, arcs), 24)
    part_of = rng.integers(0, parts, 24).astype(np.int32)
    pair = [state_of(graph, part_of, parts), state_of(graph, part_of, parts, portable=True)]
    for state in pair:
        state.strength[:] = strength
        state.price[0, 1:] = 2.5  # rows of part 0 are dear
    for heat in (3.0, 0.5, 0.0):
        moves = [state.anneal(100, heat, heat / 2, seed + 2**63) for state in pair]
        assert moves[0] == moves[1]
        for compiled_array, python_array in zip(books(pair[0]), books(pair[1]), strict=True):
            assert np.array_equal(compiled_array, python_array)


@pytest.mark.parametrize("portable", [False, True])
def test_the_books_agree_with_counting_anew(portable: bool) -> None:
    rng = np.random.default_rng(1)
    graph = random_graph(rng, random_arcs(rng, 80, 300), 80)
    state = state_of(graph, rng.integers(0, 4, 80).astype(np.int32), 4, portable=portable)
    state.strength[:] = 2
    assert state.anneal(500, 4.0, 0.0, 3) > 0
    again = state_of(graph, state.part_of, 4)
    for kept, counted in zip(books(state), books(again), strict=True):
        assert np.array_equal(kept, counted)
    matrix = volume_matrix(graph, state.part_of, 4)
    assert np.array_equal(state.loads[-2], matrix.sum(axis=1))
    assert np.array_equal(state.loads[-1], matrix.sum(axis=0))
    assert state.volume == matrix.sum()


@pytest.mark.parametrize("strength", [0.0, 3.0])
@pytest.mark.parametrize("dear", [1.0, 4.0])
def test_without_heat_what_it_says_it_lowers_falls(strength: float, dear: float) -> None:
    """A move is judged by the change of the whole objective: only with heat may that rise."""
    graph = load(COMMUNITIES)
    state = state_of(graph, (np.arange(1500) % 4).astype(np.int32), 4)
    state.strength[:] = strength
    state.price[:2, 2:] = state.price[2:, :2] = dear
    state.passes.anneal(state, 3000, 0.0, 0.0, 1)
    state.set_means()

    def objective() -> float:
        share = state.loads * state.per_mean[:, None]
        over = np.maximum(0, share - state.cap[:, None]) * state.strength[:, None]
        return state.cost + state.unit * float((over + state.pull * (share - 1) ** 2).sum())

    values = [objective()]
    for seed in range(30):
        state.passes.anneal(state, 50, 0.0, 0.0, seed)  # the means stay: what is lowered stays the same thing
        values.append(objective())
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(values))
    assert values[-1] < values[0]
    state.passes.anneal(state, 500, 50.0, 50.0, 1)
    assert objective() > values[-1]


@needs_compiler
def test_annealing_gets_out_of_where_a_descent_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Communities spread over all parts: single moves that gain find no good cut, those with heat do."""
    graph = load("synthetic:nodes=600,degree=12,features=2,classes=2,communities=8,between=0.05")
    rng = np.random.default_rng(0)
    start = rng.integers(0, 4, 600).astype(np.int32)
    found = []
    for cold, hot in ((1e-6, 1e-6), (partition.refine.COLD, 8.0)):
        monkeypatch.setattr("partition.refine.COLD", cold)
        state = state_of(graph, start, 4)
        found.append(refine(state, reference=state.volume, aims=Aims(), hot=hot).volume)
    assert found[1] < 0.8 * found[0]


@needs_compiler
def test_refinement_keeps_its_promises_after_metis() -> None:
    """No more than the slack above METIS's volume, and worth more than METIS's cut."""
    graph = load(COMMUNITIES)
    raw = metis_csr(graph.adjacency, 4)
    state = state_of(graph, raw, 4)
    before = dict(zip(partition.refine.LOADS, state.worst_over_mean(), strict=True))
    found = refine(state, reference=state.volume, aims=Aims())
    assert total_volume(graph, found.part_of, 4) == found.volume
    assert found.volume <= (1 + Aims().slack) * total_volume(graph, raw, 4)
    excess = sum(max(0.0, share - cap) for share, cap in zip(before.values(), Aims().caps, strict=True))
    after = sum(
        max(0.0, share - cap) for share, cap in zip(found.worst_over_mean.values(), Aims().caps, strict=True)
    )
    assert found.merit < 1 + 0.5 * excess
    assert after <= excess


@needs_compiler
def test_slack_is_never_exceeded_even_for_balance() -> None:
    """What sends more than the slack allows is not kept, however even it is; the start is, when all do."""
    graph = load(COMMUNITIES)
    start = np.minimum(np.arange(1500) // 300, 3).astype(np.int32)
    even = refine(state_of(graph, start, 4), reference=10**6, aims=Aims(slack=0.0))
    assert even.worst_over_mean["nodes"] < state_of(graph, start, 4).worst_over_mean()[0]
    strict = refine(state_of(graph, start, 4), reference=even.volume // 2, aims=Aims(slack=0.5))
    assert np.array_equal(strict.part_of, start)
    assert strict.merit == np.inf > even.merit


def test_no_part_is_ever_emptied() -> None:
    graph = load("synthetic:nodes=40,degree=8,features=2,classes=2")
    state = state_of(graph, np.where(np.arange(40) == 0, 1, 0).astype(np.int32), 2)
    state.strength[:] = 0
    state.cap[:] = 9
    state.pull = 0
    state.anneal(5000, 1000.0, 0.0, 1)
    assert state.size.min() >= 1


@needs_compiler
@pytest.mark.parametrize("parts", [2, 4])
def test_real_graph_against_metis_alone(real_graphs: Path, parts: int) -> None:
    """Within the slack and worth more; below METIS's volume when evenness is worth nothing."""
    graph = load(f"npz:{real_graphs}/cora.npz,features=degree")
    alone = assign(graph, Recipe(parts=parts, refine=False), lambda _: None)
    volume = total_volume(graph, alone, parts)
    even = assign(graph, Recipe(parts=parts), lambda _: None)
    assert total_volume(graph, even, parts) <= (1 + Aims().slack) * volume
    merit, merit_alone = (
        measured(state_of(graph, part_of, parts), volume, Aims()).merit for part_of in (even, alone)
    )
    assert merit < 0.95 * merit_alone
    lowest = assign(graph, Recipe(parts=parts, aims=Aims(balance=0)), lambda _: None)
    assert total_volume(graph, lowest, parts) <= volume


def test_same_seed_same_assignment() -> None:
    graph = load(COMMUNITIES)
    first, again, other = (assign(graph, Recipe(parts=3, seed=seed), lambda _: None) for seed in (0, 0, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_directed_graph_is_refined_too() -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, random_arcs(rng, 60, 200), 60, directed=True)
    part_of = assign(graph, Recipe(parts=3, starts=2), lambda _: None)
    assert np.bincount(part_of, minlength=3).min() > 0
    alone = assign(graph, Recipe(parts=3, refine=False), lambda _: None)
    assert total_volume(graph, part_of, 3) <= (1 + Aims().slack) * total_volume(graph, alone, 3) + 3


def test_without_a_compiler_it_is_refined_too(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load("synthetic:nodes=300,degree=6,features=2,classes=2,communities=10")
    alone = total_volume(graph, assign(graph, Recipe(parts=3, refine=False), lambda _: None), 3)
    monkeypatch.setattr("partition.refine.compiled", lambda: None)
    said: list[str] = []
    found = assign(graph, Recipe(parts=3, starts=2), said.append)
    assert any("refined:" in line for line in said)
    assert total_volume(graph, found, 3) <= (1 + Aims().slack) * alone


def test_what_cannot_be_refined_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "4 GiB" in obstacle(10**9, 10, 8)
    monkeypatch.setattr("partition.refine.compiled", lambda: None)
    monkeypatch.setattr("partition.refine.native", lambda: Native(None, "no C compiler found"))
    assert "no C compiler" in obstacle(1000, 10**7, 8)
    monkeypatch.setattr("partition.refine.PYTHON_ARCS", 10)
    said: list[str] = []
    assign(load(COMMUNITIES), Recipe(parts=2), said.append)
    assert any("too many without compiled code: no C compiler" in line for line in said)


def test_wrong_aims() -> None:
    with pytest.raises(ValueError, match=r"arcs=0\.5 is too small; use 1\.0 or more"):
        Aims(arcs=0.5)
    with pytest.raises(ValueError, match=r"slack=-1"):
        Aims(slack=-1)
