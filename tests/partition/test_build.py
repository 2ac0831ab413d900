"""Building part by part: memory, order inside a part, seconds of the phases."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from partition.assign import Recipe
from partition.assign.recipe import ORDERS
from partition.build import build_parts, number_nodes
from partition.graph import Graph
from partition.order import locality_order
from partition.sources import load
from partition.store import open_part

WIDE = "synthetic:nodes=8000,degree=10,features=512,classes=3,communities=20"


def test_peak_memory_is_the_graph_and_one_part(tmp_path: Path) -> None:
    """Features are 16 MB; eight parts of 2 MB must not need half of them, one part of 16 MB needs more."""
    graph = load(WIDE)
    peaks = {}
    for parts in (1, 8):
        recipe = Recipe(parts=parts, method="random", order="none")
        tracemalloc.start()
        build_parts(graph, recipe, out=tmp_path / str(parts))
        peaks[parts] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[8] < graph.features.nbytes / 2
    assert peaks[8] < peaks[1]


def test_seconds_of_each_phase(tmp_path: Path) -> None:
    built = build_parts("synthetic:nodes=100", Recipe(parts=2), out=tmp_path / "parts")
    assert list(built.seconds) == ["read", "assign", "order", "write"]
    assert all(spent >= 0 for spent in built.seconds.values())
    assert built.folder == tmp_path / "parts"


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_is_a_numbering(order: str) -> None:
    graph = load("synthetic:nodes=3000,degree=12,features=2,classes=3,communities=12")
    part_of = (np.arange(3000) % 2).astype(np.int32)
    numbering = number_nodes(graph, part_of, 2, order=order)
    assert sorted(numbering.node_ids.tolist()) == list(range(3000))
    assert np.array_equal(numbering.global_ids[numbering.node_ids], np.arange(3000))
    for part in range(2):
        assert (part_of[numbering.nodes(part)] == part).all()


def span(graph: Graph, order: np.ndarray) -> float:
    """Mean distance between the places of neighbours."""
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    rows = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    return float(np.abs(place[graph.indices] - place[rows]).mean())


def test_pieces_bring_neighbours_close() -> None:
    graph = load("synthetic:nodes=4000,degree=16,features=2,classes=3,communities=20")
    plain = span(graph, np.arange(4000))
    assert span(graph, locality_order(graph.adjacency)) < 0.5 * plain
    assert span(graph, locality_order(graph.adjacency, order="none")) == plain


def test_order_of_a_part_that_reaches_disk(tmp_path: Path) -> None:
    """Inner rows are stored in the order of the pieces: neighbours are closer than by id."""
    graph = load("synthetic:nodes=6000,degree=16,features=2,classes=3,communities=20")
    spans = []
    for order in ("pieces", "none"):
        build_parts(graph, Recipe(parts=2, order=order), out=tmp_path / order)
        part = open_part(tmp_path / order, 0)
        rows = np.repeat(np.arange(part.num_inner), np.diff(part.inner_indptr))
        spans.append(float(np.abs(part.inner_indices.astype(np.int64) - rows).mean()))
    assert spans[0] < 0.7 * spans[1]
