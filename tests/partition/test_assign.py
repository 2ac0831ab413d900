"""Streaming, coarse and given assignments; the compiled passes against their Python twins."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partition.assign import Recipe, assign
from partition.assign.metis import metis_csr, work_weights
from partition.assign.passes import Scoring, cluster_pass, compiled, stream_pass
from partition.assign.streaming import coarse_graph
from partition.build import partition_graph
from partition.graph import Graph
from partition.native import Native
from partition.sources import load
from partition.store import read_manifest
from partition.volume import total_volume
from tests.partition.graphs import arc_set, random_arcs, random_graph

COMMUNITIES = "synthetic:nodes=4000,degree=16,features=2,classes=3,communities=40"
HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(
        128
    )
)
needs_compiler = pytest.mark.skipif(compiled().library is None, reason="no C compiler here")


def quiet(_: str) -> None:
    return


@needs_compiler
@settings(max_examples=40)
@given(seed=st.integers(0, 99), parts=st.integers(2, 5), arcs=st.integers(0, 90), ldg=st.booleans())
def test_compiled_and_python_stream_passes_are_the_same(seed: int, parts: int, arcs: int, ldg: bool) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, random_arcs(rng, 24, arcs), 24)
    results = []
    for native in (compiled().library, None):
        part_of = np.full(24, -1, np.int32)
        load, size = np.zeros(parts), np.zeros(parts, np.int64)
        how = Scoring(ldg=ldg, extra=2.0, share=parts / (graph.num_arcs + 48), alpha=1.5, cap=1.1)
        moved = [stream_pass(graph.adjacency, part_of, load, size, how, native) for _ in range(3)]
        results.append((moved, part_of.tolist(), load.tolist(), size.tolist()))
    assert results[0] == results[1]


@needs_compiler
@settings(max_examples=40)
@given(seed=st.integers(0, 99), arcs=st.integers(0, 90), cap=st.sampled_from((5.0, 20.0, 1e9)))
def test_compiled_and_python_cluster_passes_are_the_same(seed: int, arcs: int, cap: float) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, random_arcs(rng, 24, arcs), 24)
    results = []
    for native in (compiled().library, None):
        label, weight = np.arange(24, dtype=np.int32), np.diff(graph.indptr) + 1.0
        moved = [
            cluster_pass(graph.adjacency, label, weight, extra=1.0, cap=cap, native=native) for _ in range(3)
        ]
        results.append((moved, label.tolist(), weight.tolist()))
    assert results[0] == results[1]
    label, weight = np.array(results[0][1]), np.array(results[0][2])
    assert np.array_equal(np.bincount(label, weights=np.diff(graph.indptr) + 1.0, minlength=24), weight)
    alone = np.diff(graph.indptr) + 1.0
    assert (weight <= np.maximum(cap, alone)).all()


@pytest.mark.parametrize("chunk", [1 << 24, 11])
def test_coarse_graph_counts_the_arcs_between_clusters(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partition.assign.streaming.CHUNK_ARCS", chunk)
    rng = np.random.default_rng(3)
    graph = random_graph(rng, random_arcs(rng, 40, 150), 40)
    cluster_of = rng.integers(0, 6, 40)
    expected = np.zeros((6, 6), int)
    for a, b in arc_set(graph):
        expected[cluster_of[b], cluster_of[a]] += 1
    np.fill_diagonal(expected, 0)
    coarse, counts = coarse_graph(graph.adjacency, cluster_of, 6)
    found = np.zeros((6, 6), int)
    found[np.repeat(np.arange(6), coarse.degree), coarse.indices] = counts
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("method", ["streaming", "streaming:fennel", "coarse"])
def test_methods_for_large_graphs_find_communities_and_even_work(method: str) -> None:
    graph = load(COMMUNITIES)
    part_of = assign(graph, Recipe(parts=4, method=method, refine=False), quiet)
    random = assign(graph, Recipe(parts=4, method="random"), quiet)
    assert total_volume(graph, part_of, 4) < 0.6 * total_volume(graph, random, 4)
    work = np.bincount(part_of, weights=np.diff(graph.indptr) + 16.0, minlength=4)
    assert work.max() / work.mean() < 1.06
    refined = assign(graph, Recipe(parts=4, method=method), quiet)
    assert total_volume(graph, refined, 4) <= 1.2 * total_volume(graph, part_of, 4)


def test_kahypar_starts_from_fewer_rows_of_even_work() -> None:
    """One net a node: rows sent are what it lowers; the refinement starts there."""
    pytest.importorskip("mtkahypar")
    graph = load(COMMUNITIES)
    recipe = Recipe(parts=4, method="kahypar", refine=False)
    part_of = assign(graph, recipe, quiet)
    random = assign(graph, Recipe(parts=4, method="random"), quiet)
    assert total_volume(graph, part_of, 4) < 0.6 * total_volume(graph, random, 4)
    work = np.bincount(part_of, weights=np.diff(graph.indptr) + 16.0, minlength=4)
    assert work.max() / work.mean() < 1.06
    refined = assign(graph, Recipe(parts=4, method="kahypar"), quiet)
    assert total_volume(graph, refined, 4) <= 1.2 * total_volume(graph, part_of, 4)


def test_kahypar_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, recipe = load(COMMUNITIES), Recipe(parts=2, method="kahypar")
    monkeypatch.setitem(sys.modules, "mtkahypar", None)
    with pytest.raises(ValueError, match=r"pip install 'bnsgcn\[kahypar\]'.*or use --method metis") as error:
        assign(graph, recipe, quiet)
    assert "\n" not in str(error.value)
    monkeypatch.setattr("partition.assign.kahypar.MOST_PINS", 10)
    with pytest.raises(ValueError, match=r"pins, at most 10 fit; use --method metis"):
        assign(graph, recipe, quiet)


def test_coarse_says_when_a_graph_is_too_small() -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, random_arcs(rng, 9, 40), 9)
    with pytest.raises(ValueError, match="4 per part are needed"):
        assign(graph, Recipe(parts=4, method="coarse"), quiet)


def test_streaming_without_a_compiler_says_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partition.assign.streaming.compiled", lambda: Native(None, "no C compiler found"))
    monkeypatch.setattr("partition.assign.streaming.PYTHON_ARCS", 10)
    with pytest.raises(ValueError, match="without compiled code: no C compiler found"):
        assign(load(COMMUNITIES), Recipe(parts=2, method="streaming"), quiet)


def test_streaming_reads_a_mapped_adjacency(tmp_path: Path) -> None:
    graph = load(COMMUNITIES)
    arcs = np.stack([graph.indices, np.repeat(np.arange(4000, dtype=np.int32), np.diff(graph.indptr))])
    np.savez(tmp_path / "graph.npz", edge_index=arcs, feat=graph.features, label=graph.labels)
    mapped = load(f"npz:{tmp_path}/graph.npz,scratch={tmp_path}")
    assert isinstance(mapped.indices, np.memmap)
    recipe = Recipe(parts=3, method="streaming", refine=False)
    assert np.array_equal(assign(mapped, recipe, quiet), assign(graph, recipe, quiet))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, ">i4"])
def test_given_assignment_is_taken_as_it_is(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, random_arcs(rng, 9, 40), 9)
    wanted = np.array([2, 0, 1, 1, 0, 2, 2, 2, 1], dtype)
    np.save(tmp_path / "parts.npy", wanted)
    method = f"file:{tmp_path}/parts.npy"
    assert assign(graph, Recipe(parts=3, method=method), quiet).tolist() == wanted.tolist()
    partition_graph(graph, parts=3, out=tmp_path / "out", method=method)
    assert read_manifest(tmp_path / "out").part_nodes == (2, 3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([0, 1, 2]), r"shape \(3,\) for 9 nodes"),
        (np.arange(9), "part 8 of node 8 is out of range with 3 parts"),
        (np.array([0, 1, 2, -1, 0, 0, 0, 0, 0]), "part -1 of node 3"),
        (np.zeros(9, int), "part 1 of 3 has no node"),
        (np.zeros(9), "not an array of whole numbers"),
        (np.full(9, 2**64 - 1, np.uint64), "part 18446744073709551615 of node 0 is out of range"),
        (b"nonsense", "not a whole NumPy array file"),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000, "not a whole NumPy array file"),
        (HUGE, "not a whole NumPy array file"),
        (None, "no such file"),
    ],
)
def test_wrong_assignment_files(tmp_path: Path, content: np.ndarray | bytes | None, message: str) -> None:
    path = tmp_path / "parts.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    rng = np.random.default_rng(0)
    graph = random_graph(rng, random_arcs(rng, 9, 40), 9)
    with pytest.raises(ValueError, match=message) as error:
        assign(graph, Recipe(parts=3, method=f"file:{path}"), quiet)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "streaming:fenel"}, "did you mean 'fennel'"),
        ({"method": "metis:4"}, "takes nothing after"),
        ({"method": "kahypa"}, "did you mean 'kahypar'"),
        ({"method": "file:"}, "names no file"),
        ({"imbalance": 0.9}, "use 1.001 to 2"),
        ({"starts": -1}, "--starts -1"),
        ({"starts": 10**9}, "--starts 1000000000 is out of range; use 0 to 1000"),
        ({"imbalance": float("nan")}, "use 1.001 to 2"),
        ({"train_work": float("nan")}, "0 or more"),
        ({"order": "none?"}, "did you mean 'none'"),
        ({"node_work": -1.0}, "0 or more"),
    ],
)
def test_wrong_recipes(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**{"parts": 2, **options})


def test_work_weights_even_out_what_they_are_told_to() -> None:
    """Training nodes crowd in some communities: METIS evens them out when their work counts."""
    graph = load(COMMUNITIES)
    crowded = np.where(graph.labels == 0, 1, np.where(graph.split == 1, 3, graph.split)).astype(np.uint8)
    graph = Graph(**{**vars(graph), "split": crowded})
    worst = []
    for train_work in (0.0, 20.0):
        recipe = Recipe(parts=4, starts=2, refine=False, train_work=train_work, node_work=1.0)
        weights = work_weights(graph.adjacency, graph.split, recipe)
        part_of = metis_csr(graph.adjacency, 4, weights=weights, imbalance=1.03)
        train = np.bincount(part_of[graph.split == 1], minlength=4)
        worst.append(train.max() / train.mean())
    assert worst[1] < worst[0]


@pytest.mark.parametrize("method", ["metis", "streaming", "coarse", "random"])
def test_the_largest_seed_is_a_seed(method: str) -> None:
    graph = load("synthetic:nodes=900,degree=6,features=2,classes=2,communities=30")
    assign(graph, Recipe(parts=2, method=method, seed=2**64 - 1), quiet)


def test_an_assignment_without_any_arc() -> None:
    graph = random_graph(np.random.default_rng(0), np.zeros((2, 0), int), 10)
    for method in ("metis", "streaming", "coarse"):
        assert np.bincount(assign(graph, Recipe(parts=3, method=method), quiet)).tolist() == [4, 3, 3]
