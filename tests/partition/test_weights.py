"""Edge weights from every kind of source to the parts, against a dictionary; no weight is one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partition import remembered
from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import Graph
from partition.manifest import read_manifest
from partition.part import ARRAYS, WEIGHTS
from partition.sources import load
from partition.store import open_part, part_folder
from partition.weights import arc_weights
from tests.partition.archives import write
from tests.partition.forged_parts import main as try_forgeries
from tests.partition.forged_parts import rewrite
from tests.partition.graphs import read_parts, rows_of

NODES = 12
Arc = tuple[int, int]


def weighted_graph(arcs: Any, weights: Any, nodes: int = NODES, **more: Any) -> Graph:
    return Graph.from_arrays(
        np.asarray(arcs, np.int64).reshape(-1, 2).T,
        edge_weight=weights,
        features=np.ones((nodes, 2), np.float32),
        labels=np.arange(nodes) % 3,
        split=np.arange(nodes) % 4,
        **more,
    )


def weights_of(graph: Graph) -> dict[Arc, float]:
    """The weight of every arc, by (source, target)."""
    weights = np.ones(graph.num_arcs, np.float32) if graph.weights is None else graph.weights
    ends = zip(graph.indices.tolist(), rows_of(graph.indptr).tolist(), strict=True)
    return dict(zip(ends, weights.tolist(), strict=True))


def by_definition(arcs: list[Arc], weights: list[float], *, directed: bool) -> dict[Arc, float]:
    """Repeats are summed; then an edge weighs the mean of the directions that are given."""
    given: dict[Arc, float] = {}
    for (source, target), weight in zip(arcs, weights, strict=True):
        if source != target:
            given[source, target] = given.get((source, target), 0.0) + weight
    if directed:
        return given
    both = {arc: [given[one] for one in (arc, arc[::-1]) if one in given] for arc in given}
    return {one: float(np.mean(found)) for arc, found in both.items() for one in (arc, arc[::-1])}


arcs_and_weights = st.lists(
    st.tuples(
        st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.sampled_from([0.0, 0.25, 1.0, 2.5, 7.0])
    ),
    min_size=1,
    max_size=60,
)


@given(listed=arcs_and_weights, directed=st.booleans())
def test_repeats_are_summed_and_directions_averaged(listed: Any, directed: bool) -> None:
    arcs, weights = [(a, b) for a, b, _ in listed], [w for *_, w in listed]
    found = weights_of(weighted_graph(arcs, weights, directed=directed))
    wanted = by_definition(arcs, weights, directed=directed)
    assert found.keys() == wanted.keys()
    assert all(found[arc] == np.float32(wanted[arc]) for arc in wanted)


def test_listing_both_directions_doubles_nothing() -> None:
    """As PyG and DGL list undirected edges; a sum would give other results than theirs with self loops."""
    once = weighted_graph([(0, 1), (1, 2), (5, 2)], [0.5, 3, 2])
    twice = weighted_graph([(0, 1), (1, 2), (5, 2), (1, 0), (2, 1), (2, 5)], [0.5, 3, 2, 0.5, 3, 2])
    assert weights_of(once) == weights_of(twice)
    assert weights_of(once)[2, 5] == weights_of(once)[5, 2] == 2
    assert not any("differently" in note for note in twice.notes)
    assert twice.digest() == once.digest() != weighted_graph([(0, 1), (1, 2), (5, 2)], [0.5, 3, 1]).digest()


def test_what_is_decided_is_said() -> None:
    graph = weighted_graph([(0, 1), (1, 0), (1, 2)], [1, 3, 0.5])
    assert any(
        "edges have weights, 0.5 to 2;" in note and "edge_weights=ignore" in note for note in graph.notes
    )
    assert any("1 edges weigh differently in their two directions" in note for note in graph.notes)


def test_ranges_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 40, (2, 300))
    weights = rng.random(300)
    graph = weighted_graph(np.stack([source, target], 1), weights, 40)
    assert graph.weights is not None
    monkeypatch.setattr("partition.weights.SCAN_ARCS", 37)
    small = type(graph.adjacency).stretches
    monkeypatch.setattr(type(graph.adjacency), "stretches", lambda self, arcs: small(self, arcs=50))
    again, _ = arc_weights(graph.adjacency, source, target, weights, symmetrised=True)
    assert np.array_equal(graph.weights, again)


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0]])
def test_weights_of_1_are_no_weights(weights: Any, tmp_path: Path) -> None:
    """Nothing is stored, and the parts are those of the unweighted graph to the byte."""
    graph = weighted_graph([(0, 1), (1, 2), (5, 2)], weights)
    assert graph.weights is None
    manifest = partition_graph(graph, parts=2, out=tmp_path / "parts", method="random")
    assert "weighted" not in manifest.to_text()
    assert len(manifest.files) == 2 * len(ARRAYS)
    assert open_part(tmp_path / "parts", 0).inner_weights is None


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, -0.5, 1], "edge 1 weighs -0.5"),
        ([1, 1, np.nan], "edge 2 weighs nan"),
        ([np.inf, 1, 1], "edge 0 weighs inf"),
        ([1, 1e-40, 1], "edge 1 weighs 1e-40; weights are 0 or between 1e-30 and"),
        ([1, 2], r"edge_weight has shape \(2,\) for 3 edges"),
        (np.ones((3, 2)), r"edge_weight has shape \(3, 2\) for 3 edges"),
        (["a", "b", "c"], "edge_weight has dtype"),
    ],
)
def test_what_is_no_weight_is_one_line(weights: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        weighted_graph([(0, 1), (1, 2), (5, 2)], weights)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("directed", [False, True])
def test_parts_hold_the_weight_of_every_arc(directed: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph = weighted_graph(rng.integers(0, 50, (400, 2)), rng.random(400) * 3, 50, directed=directed)
    partition_graph(graph, parts=3, out=tmp_path / "parts", method="random")
    parts, found = read_parts(tmp_path / "parts"), {}
    original = np.concatenate([part.node_ids for part in parts])
    for part in parts:
        for of, ids in (("inner", part.node_ids), ("halo", original[part.halo_ids])):
            sources = ids[getattr(part, f"{of}_indices")].tolist()
            targets = part.node_ids[rows_of(getattr(part, f"{of}_indptr"))].tolist()
            weights = getattr(part, f"{of}_weights").tolist()
            found |= dict(zip(zip(sources, targets, strict=True), weights, strict=True))
    assert found == weights_of(graph)


# ---- sources ----


def test_npz(tmp_path: Path) -> None:
    """The archive's arcs are 0-1 in both directions, 1->2, 2->3, a loop at 5, 5->4."""
    source = write(tmp_path, {"edge_weight": np.array([2, 4, 0.5, 1, 9, 3])})
    assert weights_of(load(source))[0, 1] == 3
    assert weights_of(load(source + ",directed=true"))[1, 0] == 4
    assert weights_of(load(f"{source},scratch={tmp_path}")) == weights_of(load(source))
    assert load(source + ",edge_weights=ignore").weights is None
    with pytest.raises(UserError, match="edge_weights=no is neither use nor ignore"):
        load(source + ",edge_weights=no")


@pytest.mark.parametrize("library", ["dgl", "pyg"])
def test_libraries_and_back(library: str) -> None:
    pytest.importorskip({"dgl": "dgl", "pyg": "torch_geometric"}[library], exc_type=Exception)
    graph = weighted_graph([(0, 1), (1, 2), (5, 2), (3, 7)], [0.5, 3, 2, 1])
    made = getattr(graph, f"to_{library}")()
    read = getattr(Graph, f"from_{library}")
    assert weights_of(read(made)) == weights_of(graph)
    assert read(made, edge_weights="ignore").weights is None
    with pytest.raises(UserError, match="neither use nor ignore"):
        read(made, edge_weights="drop")


def test_pyg_edge_attributes_of_one_column_are_weights() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric", exc_type=Exception)
    graph = weighted_graph([(0, 1), (1, 2), (5, 2), (3, 7)], [0.5, 3, 2, 1])
    made = graph.to_pyg()
    made.edge_attr, made.edge_weight = made.edge_weight[:, None], None
    assert weights_of(Graph.from_pyg(made)) == weights_of(graph)
    made.edge_attr = torch.ones(made.edge_index.shape[1], 2)
    assert Graph.from_pyg(made).weights is None


@pytest.mark.filterwarnings("ignore")
def test_dgl_parts_bring_their_weights(tmp_path: Path) -> None:
    dgl = pytest.importorskip("dgl", exc_type=Exception)
    rng = np.random.default_rng(2)
    graph = weighted_graph(rng.integers(0, 30, (80, 2)), rng.random(80) + 0.5, 30)
    given = {"part_method": "random", "return_mapping": True}
    nodes, _ = dgl.distributed.partition_graph(graph.to_dgl(), "cut", 2, str(tmp_path), **given)
    original = nodes.tolist()
    read = weights_of(load(f"dgl:{tmp_path}/cut.json"))
    assert {(original[a], original[b]): weight for (a, b), weight in read.items()} == weights_of(graph)


# ---- parts that were forged ----


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remembered, "PLACE", str(tmp_path / "checked"))
    rng = np.random.default_rng(3)
    graph = weighted_graph(rng.integers(0, 60, (300, 2)), rng.random(300) + 0.5, 60)
    partition_graph(graph, parts=3, out=tmp_path / "parts", method="random")
    assert read_manifest(tmp_path / "parts").weighted
    return tmp_path / "parts"


def nan(array: np.ndarray) -> np.ndarray:
    array[3] = np.nan
    return array


def heavier(array: np.ndarray) -> np.ndarray:
    array[0] = np.nextafter(array[0], np.float32(9))
    return array


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("inner_weights", lambda array: array[:-1], "weights for"),
        ("halo_weights", lambda array: np.concatenate([array, array]), "weights for"),
        ("halo_weights", lambda array: array.astype(np.float64), "float64"),
        ("inner_weights", nan, "arc 3 weighs nan"),
        ("halo_weights", lambda array: -array, "arc 0 weighs -"),
        ("inner_weights", heavier, "some arcs weigh less one way"),
    ],
)
def test_forged_weights_are_refused(folder: Path, name: str, change: Any, said: str) -> None:
    rewrite(folder, 1, name, change(np.load(folder / part_folder(1) / f"{name}.npy")))
    with pytest.raises(UserError, match=said) as error:
        open_part(folder, 1)
    assert f"{name}.npy" in str(error.value)


def test_a_weighted_folder_without_its_weights_is_refused(folder: Path) -> None:
    (folder / part_folder(0) / "halo_weights.npy").unlink()
    with pytest.raises(UserError, match=r"halo_weights.npy: missing"):
        open_part(folder, 0)


def test_forgeries_of_weighted_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.partition.forged_parts.ARRAYS", WEIGHTS)
    with np.errstate(invalid="ignore"):
        try_forgeries(folder, 60, 11)


def test_what_is_made_of_an_adjacency_has_no_weights() -> None:
    adjacency = weighted_graph([(0, 1), (1, 2), (5, 2)], [0.5, 3, 2]).adjacency
    assert adjacency.weights is not None
    for made in (adjacency.transposed(), adjacency.undirected(), adjacency.with_indices(np.int64)):
        assert made.weights is None
    assert dataclasses.replace(adjacency, weights=None).num_arcs == adjacency.num_arcs
