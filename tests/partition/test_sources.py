"""SOURCE strings, the npz form and the synthetic generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from partition.build import partition_graph
from partition.graph import Graph
from partition.sources import load, parse
from partition.store import open_part
from tests.partition.graphs import arc_set


def arrays_of_a_graph() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "edge_index": np.array([[0, 1, 1, 2, 5, 5], [1, 0, 2, 3, 5, 4]], np.int32),  # a duplicate, a loop
        "feat": rng.random((8, 3)).astype(np.float32),
        "label": np.array([0, 1, 2, 0, 1, 2, -1, 0]),
        "train_idx": np.array([0, 1, 2]),
        "val_idx": np.array([3, 4]),
        "test_idx": np.array([5]),
    }


def write(tmp_path: Path, changes: dict[str, Any], compressed: bool = False) -> str:
    arrays = {key: value for key, value in {**arrays_of_a_graph(), **changes}.items() if value is not None}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "graph.npz", **arrays)
    return f"npz:{tmp_path}/graph.npz"


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_symmetrised_without_loops_and_duplicates(tmp_path: Path, compressed: bool) -> None:
    graph = load(write(tmp_path, {}, compressed))
    expected = {(0, 1), (1, 2), (2, 3), (4, 5)}
    assert arc_set(graph) == expected | {(b, a) for a, b in expected}
    assert np.array_equal(graph.features, arrays_of_a_graph()["feat"])
    assert graph.split.tolist() == [1, 1, 1, 2, 2, 3, 0, 0]
    assert (graph.num_classes, graph.task, graph.name, graph.notes) == (3, "single", "graph", ())


def test_npz_directed_keeps_arcs(tmp_path: Path) -> None:
    graph = load(write(tmp_path, {}) + ",directed=true")
    assert arc_set(graph) == {(0, 1), (1, 0), (1, 2), (2, 3), (5, 4)}
    assert graph.in_degree().tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert graph.out_degree().tolist() == [1, 2, 1, 0, 0, 1, 0, 0]


def test_stored_members_are_mapped_not_read(tmp_path: Path) -> None:
    assert isinstance(load(write(tmp_path, {})).features, np.memmap)


def test_npz_sparse_features_stay_sparse_until_a_part_is_written(tmp_path: Path) -> None:
    dense = arrays_of_a_graph()["feat"] * (arrays_of_a_graph()["feat"] > 0.5)
    csr = sp.csr_matrix(dense)
    pieces = {"feat": None, "feat_data": csr.data, "feat_indices": csr.indices, "feat_indptr": csr.indptr}
    source = write(tmp_path, {**pieces, "feat_shape": np.array(csr.shape)})
    assert sp.issparse(load(source).features)
    partition_graph(source, parts=2, out=tmp_path / "parts")
    for part in (open_part(tmp_path / "parts", 0), open_part(tmp_path / "parts", 1)):
        assert np.array_equal(part.features, dense[part.node_ids])


def test_missing_features_name_two_ways_out_and_both_work(tmp_path: Path) -> None:
    source = write(tmp_path, {"feat": None})
    with pytest.raises(ValueError, match=r"features=degree.*features=random:64"):
        load(source)
    degree = load(source + ",features=degree").features
    assert degree.shape == (8, 32)
    assert np.allclose(degree[:, 0], np.log1p([1, 2, 2, 1, 1, 1, 0, 0]))
    random = load(source + ",features=random:64").features
    assert random.shape == (8, 64)
    assert np.array_equal(random, load(source + ",features=random:64").features)


def test_missing_split_is_seeded_and_said(tmp_path: Path) -> None:
    source = write(tmp_path, {"train_idx": None, "val_idx": None, "test_idx": None})
    graph = load(source)
    assert np.bincount(graph.split).tolist() == [1, 4, 2, 1]  # 7 labelled nodes, node 6 in none
    assert graph.split[6] == 0
    assert "7 labelled nodes split 60/20/20 with seed 0" in graph.notes[0]
    assert np.array_equal(load(source).split, graph.split)
    assert not np.array_equal(load(source + ",split_seed=5").split, graph.split)


def test_unlabelled_nodes_leave_the_split(tmp_path: Path) -> None:
    graph = load(write(tmp_path, {"test_idx": np.array([5, 6])}))
    assert graph.split[6] == 0
    assert "1 nodes of the split have no label" in graph.notes[0]


def test_multi_hot_and_another_label_key(tmp_path: Path) -> None:
    multi = np.eye(8, 5, dtype=np.uint8)
    graph = load(write(tmp_path, {"label": multi}))
    assert (graph.task, graph.num_classes) == ("multi", 5)
    assert np.array_equal(graph.labels, multi)
    both = load(write(tmp_path, {"label_multi": multi, "multi_idx": [0, 3, 5]}) + ",label=label_multi")
    assert both.split.tolist() == [1, 0, 0, 2, 0, 3, 0, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feat": np.where(np.arange(24).reshape(8, 3) == 13, np.nan, 1.0)}, ["row 4", "NaN"]),
        ({"feat": np.ones((7, 3))}, ["(7, 3)", "8 nodes"]),
        ({"label": np.array([0, 1, 2, 0, 1, -2, -1, 0])}, ["label -2", "node 5", "3 classes"]),
        ({"label": np.array([0, 1, 2, 0, 1, 900, -1, 0])}, ["label 900", "node 5", "8 nodes"]),
        ({"num_classes": 2}, ["label 2", "node 2", "2 classes"]),
        ({"edge_index": np.array([[0, 1], [3, 8]])}, ["edge 1", "node 8", "8 nodes"]),
        ({"edge_index": np.array([[0, -1], [3, 2]])}, ["edge 1", "node -1"]),
        ({"edge_index": np.ones((3, 2), int)}, ["(3, 2)", "[2, E]"]),
        ({"edge_index": np.ones((2, 2))}, ["float64", "int64"]),
        ({"edge_index": None}, ["no array 'edge_index'", "it has: feat"]),
        ({"val_idx": np.array([], int)}, ["val_idx is empty", "0 of 8"]),
        ({"val_idx": None}, ["no val_idx"]),
        ({"val_idx": np.array([6])}, ["val split is empty"]),  # its only node is unlabelled
        ({"val_idx": np.array([2, 4])}, ["node 2", "train_idx", "val_idx"]),
        ({"test_idx": np.array([8])}, ["test_idx names node 8", "8 nodes"]),
        ({"label": np.full((8, 2), 3)}, ["row 0", "neither 0 nor 1"]),
        ({"label": np.array([0.5, 1, 2, 0, 1, 2, 0, 0])}, ["label 0.5", "node 0"]),
        ({"feat": np.array([object()] * 8)}, ["'feat' cannot be read"]),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        load(write(tmp_path, changes))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.97])
def test_truncated_npz_names_the_file(tmp_path: Path, kept: float) -> None:
    write(tmp_path, {})
    path = tmp_path / "graph.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=str(path)) as error:
        load(f"npz:{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("npx:graph.npz", "did you mean 'npz'"),
        ("synthetci", "did you mean 'synthetic'"),
        ("graph.npz", "KIND:REST"),
        ("npz:", "no file named"),
        ("npz:nowhere/graph.npz", "no folder nowhere"),
        ("npz:graph.npz,feature=degree", "did you mean 'features'"),
        ("synthetic:node=5", "did you mean 'nodes'"),
        ("synthetic:nodes=many", "nodes=many is not a whole number"),
        ("synthetic:nodes=2", "at least 5"),
        ("synthetic:nodes=100,degree=90", "use at most 49"),
        ("synthetic:nodes=100,communities=200", "use at most 100"),
        ("synthetic:train=0.9,val=0.1", "leave no test nodes"),
        ("synthetic:between=2", "no share"),
        ("synthetic:big", "not KEY=VALUE"),
    ],
)
def test_bad_source(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(source)


def test_near_file_name_is_suggested(tmp_path: Path) -> None:
    write(tmp_path, {})
    with pytest.raises(ValueError, match=r"did you mean 'graph\.npz'"):
        load(f"npz:{tmp_path}/grahp.npz")


def test_a_bad_features_recipe_names_the_good_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="features=random:64"):
        load(write(tmp_path, {}) + ",features=ones")


def test_grammar() -> None:
    spec = parse("npz:a,b/c.npz,features=random:8,directed=true")
    assert (spec.kind, spec.target) == ("npz", "a,b/c.npz")
    assert spec.options == {"features": "random:8", "directed": "true"}
    assert parse("synthetic").options == {}
    assert parse("synthetic:nodes=7,seed=2").options == {"nodes": "7", "seed": "2"}


SMALL = "synthetic:nodes=3000,degree=12,features=8,classes=5,communities=20"


def test_synthetic_is_seeded() -> None:
    first, again, other = load(SMALL), load(SMALL), load(SMALL + ",seed=1")
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()


def test_synthetic_has_what_was_asked_for() -> None:
    graph = load(SMALL)
    assert (graph.num_nodes, graph.num_arcs, graph.num_features, graph.num_classes) == (3000, 36000, 8, 5)
    assert np.bincount(graph.split, minlength=4).tolist() == [0, 1800, 600, 600]
    degree = graph.in_degree()
    assert degree.max() > 5 * np.median(degree)  # a heavy tail
    same_label = [graph.labels[a] == graph.labels[b] for a, b in arc_set(graph)]
    assert 0.8 < np.mean(same_label) < 0.97  # communities are planted, and not everything is
    assert np.mean(graph.labels[:, None] == np.arange(5)) == pytest.approx(0.2)
    centroids = np.stack([graph.features[graph.labels == label].mean(0) for label in range(5)])
    assert np.linalg.norm(centroids - centroids.mean(0), axis=1).min() > 0.1


def test_synthetic_too_dense_for_its_communities() -> None:
    assert load("synthetic:nodes=200,degree=90,communities=50").num_arcs == 18000


def test_from_arrays_without_a_split_says_so() -> None:
    graph = Graph.from_arrays(np.array([[0, 1], [1, 2]]), features=np.ones((10, 1)), labels=np.arange(10) % 2)
    assert "60/20/20" in graph.notes[0]


def test_real_graphs_have_their_published_sizes(real_graphs: Path) -> None:
    assert load(f"npz:{real_graphs}/cora.npz").num_arcs == 2 * 5278
    citeseer = load(f"npz:{real_graphs}/citeseer.npz")
    assert (citeseer.num_nodes, citeseer.num_arcs, citeseer.num_features) == (3327, 2 * 4552, 3703)
    assert load(f"npz:{real_graphs}/amazon-computers.npz").num_arcs == 2 * 245_861
    assert load(f"npz:{real_graphs}/deezer-hu.npz,features=degree").num_classes == 84
    debian = load(f"npz:{real_graphs}/debian12-deps.npz,label=label_multi")
    assert (debian.task, debian.num_classes, int((debian.split > 0).sum())) == ("multi", 100, 30_167)
