"""The laws of the store, over random graphs; each with a control that shows it would notice a breach."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partition.build import partition_graph
from partition.graph import Graph
from partition.store import Part
from tests.partition.graphs import arc_set, graphs, put_together, random_arcs, random_graph, read_parts

METHODS = ("metis", "random", "streaming")


@contextmanager
def parts_of(
    graph: Graph, parts: int, method: str = "random", objective: str = "cut"
) -> Iterator[list[Part]]:
    folder = Path(tempfile.mkdtemp()) / "parts"
    try:
        partition_graph(graph, parts=parts, out=folder, method=method, objective=objective)
        yield read_parts(folder)
    finally:
        shutil.rmtree(folder.parent)


def check_union(graph: Graph, parts: list[Part]) -> None:
    """The union of the parts is the graph: every node and every arc once, every value in its place."""
    assert sorted(np.concatenate([part.node_ids for part in parts]).tolist()) == list(range(graph.num_nodes))
    whole = put_together(parts)
    assert len(whole.arcs) == graph.num_arcs
    assert set(whole.arcs) == arc_set(graph)
    features = graph.features if isinstance(graph.features, np.ndarray) else graph.features.toarray()
    assert np.array_equal(whole.features, features)
    assert np.array_equal(whole.labels, graph.labels)
    assert np.array_equal(whole.split, graph.split)


def check_mirror(parts: list[Part]) -> None:
    """What an owner lists for a reader is, in order, what the reader's halo slots of that owner are."""
    offset = parts[0].manifest.part_offset
    for owner in parts:
        for reader in parts:
            listed = owner.boundary_rows[
                owner.boundary_splits[reader.index] : owner.boundary_splits[reader.index + 1]
            ]
            slots = reader.halo_ids[reader.halo_splits[owner.index] : reader.halo_splits[owner.index + 1]]
            assert np.array_equal(listed + offset[owner.index], slots)
            assert np.all(np.diff(slots) > 0)
            assert owner is not reader or slots.size == 0


def check_halo(parts: list[Part]) -> None:
    """Every halo slot is read by some row, and knows its node's split."""
    split = np.concatenate([part.split for part in parts])
    for part in parts:
        assert np.array_equal(np.unique(part.halo_indices), np.arange(part.num_halo))
        assert np.array_equal(part.halo_split, split[part.halo_ids])
        assert part.halo_splits[-1] == part.num_halo
        assert part.boundary_splits[-1] == part.boundary_rows.size


def check_degrees(graph: Graph, parts: list[Part]) -> None:
    """Degrees are those in the whole graph."""
    arcs = np.array(sorted(arc_set(graph)), np.int64).reshape(-1, 2)
    out_degree = np.bincount(arcs[:, 0], minlength=graph.num_nodes)
    in_degree = np.bincount(arcs[:, 1], minlength=graph.num_nodes)
    for part in parts:
        assert np.array_equal(part.in_degree, in_degree[part.node_ids])
        assert np.array_equal(part.out_degree, out_degree[part.node_ids])


def check_rows_sorted(parts: list[Part]) -> None:
    """Columns ascend within each row, each once."""
    for part in parts:
        for indptr, indices in (
            (part.inner_indptr, part.inner_indices),
            (part.halo_indptr, part.halo_indices),
        ):
            assert indptr[-1] == indices.size
            for row in range(part.num_inner):
                assert np.all(np.diff(indices[indptr[row] : indptr[row + 1]]) > 0)


@settings(max_examples=120)
@given(graph=graphs(), parts=st.integers(1, 4), method=st.sampled_from(METHODS), data=st.data())
def test_every_law_holds(graph: Graph, parts: int, method: str, data: st.DataObject) -> None:
    objective = data.draw(st.sampled_from(("cut", "volume")))
    with parts_of(graph, min(parts, graph.num_nodes), method, objective) as stored:
        check_union(graph, stored)
        check_mirror(stored)
        check_halo(stored)
        check_degrees(graph, stored)
        check_rows_sorted(stored)
        assert all(part.num_inner >= 1 for part in stored)


@pytest.mark.parametrize("method", METHODS)
def test_as_many_parts_as_nodes(method: str) -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, random_arcs(rng, 9, 40), 9)
    with parts_of(graph, 9, method) as stored:
        assert [part.num_inner for part in stored] == [1] * 9
        assert all(part.inner_indices.size == 0 for part in stored)
        check_union(graph, stored)
        check_mirror(stored)


def test_parts_without_a_shared_boundary() -> None:
    """Two cliques, two parts: METIS finds them, and every list between the parts is empty."""
    clique = np.array([(a, b) for a in range(6) for b in range(a)]).T
    graph = random_graph(np.random.default_rng(1), np.concatenate([clique, clique + 6], axis=1), 12)
    with parts_of(graph, 2, "metis") as stored:
        assert [part.num_halo for part in stored] == [0, 0]
        assert [part.boundary_rows.size for part in stored] == [0, 0]
        check_union(graph, stored)
        check_mirror(stored)


def altered(part: Part, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Part:
    return dataclasses.replace(part, **{name: change(np.array(getattr(part, name)))})


def one_more(array: np.ndarray) -> np.ndarray:
    array[0] += 1
    return array


def swapped(array: np.ndarray) -> np.ndarray:
    array[[0, -1]] = array[[-1, 0]]
    return array


@pytest.mark.parametrize(
    ("name", "change", "law"),
    [
        ("inner_indices", one_more, "union"),
        ("halo_indices", one_more, "union"),
        ("node_ids", swapped, "union"),
        ("features", one_more, "union"),
        ("labels", one_more, "union"),
        ("boundary_rows", one_more, "mirror"),
        ("boundary_rows", swapped, "mirror"),
        ("halo_ids", one_more, "mirror"),
        ("boundary_splits", lambda splits: np.roll(splits, 1), "mirror"),
        ("halo_split", one_more, "halo"),
        ("halo_indices", np.zeros_like, "halo"),
        ("in_degree", one_more, "degrees"),
        ("out_degree", one_more, "degrees"),
        ("inner_indices", lambda columns: columns[::-1].copy(), "sorted"),
    ],
)
def test_each_law_notices_a_breach(name: str, change: Callable[[np.ndarray], np.ndarray], law: str) -> None:
    rng = np.random.default_rng(5)
    graph = random_graph(rng, random_arcs(rng, 30, 150), 30)
    laws: dict[str, Callable[[list[Part]], None]] = {
        "union": lambda parts: check_union(graph, parts),
        "mirror": check_mirror,
        "halo": check_halo,
        "degrees": lambda parts: check_degrees(graph, parts),
        "sorted": check_rows_sorted,
    }
    with parts_of(graph, 3) as stored:
        laws[law](stored)
        with pytest.raises((AssertionError, IndexError)):
            laws[law]([altered(stored[0], name, change), *stored[1:]])
