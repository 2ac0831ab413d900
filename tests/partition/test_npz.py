"""The npz form: what is read, and what each mistake in it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import scipy.sparse as sp

from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import Graph
from partition.sources import load
from partition.store import open_part, read_manifest
from tests.partition.archives import arrays_of_a_graph, write
from tests.partition.graphs import arc_set


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


@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_features_of_either_order_reach_the_parts(tmp_path: Path, order: Literal["C", "F"]) -> None:
    """A member of an archive starts at any byte: most are not aligned."""
    features = np.arange(24, dtype=np.float32).reshape(8, 3)
    for length in range(1, 5):  # of a name before it
        source = write(tmp_path, {"a" * length: np.zeros(1), "feat": features.copy(order=order)})
        partition_graph(source, parts=2, out=tmp_path / f"parts{length}")
        for part in (open_part(tmp_path / f"parts{length}", 0), open_part(tmp_path / f"parts{length}", 1)):
            assert np.array_equal(part.features, features[part.node_ids])


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


@pytest.mark.parametrize("val_idx", [None, np.array([], int), np.zeros(8, bool), np.array([6])], ids=str)
def test_validation_nodes_may_be_missing_aloud(val_idx: np.ndarray | None, tmp_path: Path) -> None:
    graph = load(write(tmp_path, {"val_idx": val_idx}))
    assert np.bincount(graph.split)[[1, 3]].all()
    assert not (graph.split == 2).any()
    assert graph.notes[-1].startswith("no validation nodes in the source: train with --val-share")
    manifest = partition_graph(graph, parts=2, out=tmp_path / "parts", method="random")
    assert (manifest.num_val, read_manifest(tmp_path / "parts").num_val) == (0, 0)


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
        ({"test_idx": np.array([], int)}, ["test_idx is empty", "0 of 8"]),
        ({"test_idx": None}, ["no test_idx"]),
        ({"test_idx": np.array([6])}, ["test split is empty"]),  # its only node is unlabelled
        ({"val_idx": np.array([2, 4])}, ["node 2", "train_idx", "val_idx"]),
        ({"test_idx": np.array([8])}, ["test_idx names node 8", "8 nodes"]),
        ({"label": np.full((8, 2), 3)}, ["row 0", "neither 0 nor 1"]),
        ({"label": np.array([0.5, 1, 2, 0, 1, 2, 0, 0])}, ["label 0.5", "node 0"]),
        ({"feat": np.array([object()] * 8)}, ["'feat' cannot be read"]),
        ({"train_idx": np.array([0.0, 1.0])}, ["train_idx has dtype float64", "mask of 8"]),
        ({"train_idx": np.array([0.5])}, ["train_idx has dtype float64"]),
        ({"train_idx": np.array(["0"])}, ["train_idx has dtype <U1"]),
        ({"train_idx": np.ones(7, bool)}, ["train_idx is a mask of 7", "8 nodes"]),
        ({"train_idx": np.array([-1, 0])}, ["train_idx names node -1", "8 nodes", "0 to 7"]),
        ({"train_idx": np.array([2**64 - 1], np.uint64)}, ["train_idx names node 18446744073709551615"]),
        (
            {"train_idx": np.array([99]), "val_idx": None, "test_idx": None},
            ["but no val_idx, test_idx"],
        ),
        ({"label": np.full(8, 1j)}, ["label has dtype complex128"]),
        ({"label": np.array(["a"] * 8)}, ["label has dtype <U1"]),
        ({"label": np.zeros(8, "M8[s]")}, ["label has dtype datetime64[s]"]),
        ({"label": np.array([0, 1, 2, 0, 1, np.inf, -1, 0])}, ["label inf of node 5"]),
        ({"label": np.full(8, 1e300)}, ["label 1e+300 of node 0"]),
        ({"label": np.full(8, 2**64 - 1, np.uint64)}, ["label 18446744073709551615 of node 0"]),
        ({"label": np.int64(3)}, ["label has shape ()"]),
        ({"label": np.zeros((8, 0), int)}, ["label has shape (8, 0)"]),
        ({"label": np.zeros(0, int)}, ["label is empty", "at least 1 node"]),
        ({"num_classes": np.array([3, 4])}, ["num_classes has shape (2,)"]),
        ({"num_classes": 3.5}, ["num_classes has dtype float64"]),
        ({"num_classes": -3}, ["num_classes is -3", "between 1 and 1000"]),
        ({"num_classes": 0}, ["num_classes is 0"]),
        ({"num_classes": 10**9}, ["num_classes is 1000000000 with 8 nodes", "1000"]),
        ({"num_classes": 4, "label": np.eye(8, 5)}, ["num_classes is 4", "5 columns"]),
        ({"feat": np.ones((8, 3)) * 1j}, ["feature array has dtype complex128"]),
        ({"feat": np.full((8, 3), 1e300)}, ["row 0", "infinity"]),
        ({"edge_index": np.ones((2, 2), bool)}, ["edge_index has dtype bool"]),
        ({"edge_index": np.ones((2, 2), complex)}, ["edge_index has dtype complex128"]),
        ({"edge_index": np.array([[0], [2**64 - 1]], np.uint64)}, ["edge 0", "node 18446744073709551615"]),
        ({"label": None, "\x1b[31mred": np.zeros(1)}, ["no array 'label'", r"\x1b[31mred"]),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        load(write(tmp_path, changes))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


CSR = sp.csr_matrix(np.arange(24.0, dtype=np.float32).reshape(8, 3) % 5)
SPLITS = CSR.indptr.astype(np.int64)
SPARSE = {
    "feat": None,
    "feat_data": CSR.data,
    "feat_indices": CSR.indices,
    "feat_indptr": CSR.indptr,
    "feat_shape": np.array(CSR.shape),
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feat_indptr": CSR.indptr[[0, 5, 1, 2, 3, 4, 6, 7, 8]]}, ["row 1 goes from entry"]),
        ({"feat_indptr": np.r_[0, 2**62, SPLITS[2:]]}, ["row 1 goes from entry 4611686018427387904"]),
        ({"feat_indptr": np.r_[0, -5, SPLITS[2:]]}, ["row 0 goes from entry 0 to entry -5"]),
        ({"feat_indptr": np.r_[1, SPLITS[1:]]}, ["from 1 to", "entries"]),
        ({"feat_indptr": np.r_[SPLITS[:-1], 2**40]}, ["to 1099511627776"]),
        ({"feat_indptr": CSR.indptr[:-1]}, ["indptr (8,)", "[8, 3]"]),
        ({"feat_indptr": CSR.indptr * 1.0}, ["feat_indptr has dtype float64"]),
        ({"feat_indices": CSR.indices.astype(np.int64) + 2**40}, ["feat_indices go from 1099511627776"]),
        ({"feat_indices": CSR.indices - 1}, ["feat_indices go from -1"]),
        ({"feat_indices": CSR.indices * 1.0}, ["feat_indices has dtype float64"]),
        ({"feat_data": CSR.data * 1j}, ["feat_data has dtype complex64"]),
        ({"feat_data": CSR.data[None]}, ["data (1, "]),
        ({"feat_shape": np.array([8, 3, 1])}, ["feat_shape is [8, 3, 1]"]),
        ({"feat_shape": np.array([8.0, 3.0])}, ["feat_shape has dtype float64"]),
        ({"feat_shape": np.array([7, 3])}, ["indptr (9,)", "[7, 3]"]),
        ({"feat_shape": np.array([8, -3])}, ["feat_shape is [8, -3]"]),
        ({"feat_shape": np.array([8, 2**64 - 1], np.uint64)}, ["18446744073709551615 columns"]),
        ({"feat_data": np.where(np.arange(CSR.nnz) == CSR.indptr[4], np.nan, 1.0)}, ["row 4", "NaN"]),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_bad_sparse_features(
    tmp_path: Path, changes: dict[str, Any], words: list[str], compressed: bool
) -> None:
    with pytest.raises(UserError, match=r".") as error:
        load(write(tmp_path, {**SPARSE, **changes}, compressed))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_unsorted_and_repeated_columns_of_sparse_features(tmp_path: Path, compressed: bool) -> None:
    columns, values = CSR.indices.copy(), CSR.data.copy()
    for first, last in zip(CSR.indptr[:-1], CSR.indptr[1:], strict=True):
        columns[first:last], values[first:last] = (
            columns[first:last][::-1].copy(),
            values[first:last][::-1].copy(),
        )
    changes = {**SPARSE, "feat_indices": columns.astype(np.uint64), "feat_data": values}
    graph = load(write(tmp_path, changes, compressed))
    assert np.array_equal(graph.features.toarray(), CSR.toarray())
    changes["feat_indices"] = np.zeros_like(columns)
    assert np.array_equal(
        load(write(tmp_path, changes, compressed)).features.toarray()[:, 0], CSR.toarray().sum(axis=1)
    )


def test_masks_are_read_as_masks(tmp_path: Path) -> None:
    whole = load(write(tmp_path, {}))
    masks = {f"{part}_idx": whole.split == code for code, part in ((1, "train"), (2, "val"), (3, "test"))}
    assert np.array_equal(load(write(tmp_path, masks)).split, whole.split)
    multi = {"label_multi": np.eye(8, 5), "multi_idx": np.isin(np.arange(8), [0, 3, 5])}
    assert load(write(tmp_path, multi) + ",label=label_multi").split.tolist() == [1, 0, 0, 2, 0, 3, 0, 0]
    for wrong, words in ((np.array([8]), "multi_idx names node 8"), (np.array([0.5]), "dtype float64")):
        with pytest.raises(UserError, match=words):
            load(write(tmp_path, {**multi, "multi_idx": wrong}) + ",label=label_multi")


@pytest.mark.parametrize("kind", [">i4", ">i8", "<u8", ">u8", "u1", "i2"])
def test_numbers_of_every_width_and_order(tmp_path: Path, kind: str) -> None:
    digest = load(write(tmp_path, {})).digest()
    same = arrays_of_a_graph()
    changes = {key: same[key].astype(kind) for key in ("edge_index", "train_idx", "val_idx", "test_idx")}
    changes |= {"feat": same["feat"].astype(">f8"), "label": same["label"].astype(">f4"), "num_classes": [3]}
    assert load(write(tmp_path, changes)).digest() == digest


def test_the_name_in_meta_cannot_command_a_terminal(tmp_path: Path) -> None:
    named = {"meta": r'{"name": "red\u001b[31m"}'}
    assert load(write(tmp_path, named)).name == r"red\x1b[31m"
    for wrong in ("[" * 20_000, "{", "3", '{"name": 3}', np.array([1.0]), np.array(["a", "b"])):
        assert load(write(tmp_path, {"meta": wrong})).name == "graph"
    assert len(load(write(tmp_path, {"meta": '{"name": "' + "long" * 1000 + '"}'})).name) == 100


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.97])
def test_truncated_npz_names_the_file(tmp_path: Path, kept: float) -> None:
    write(tmp_path, {})
    path = tmp_path / "graph.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=str(path)) as error:
        load(f"npz:{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", ["-1", "18446744073709551616", "9" * 5000])
def test_a_seed_has_64_bits(tmp_path: Path, seed: str) -> None:
    with pytest.raises(UserError, match=r"a seed lies between|not a whole number"):
        load(write(tmp_path, {}) + f",split_seed={seed}")


@pytest.mark.parametrize(
    "recipe", ["random:0", "random:-1", "random:²", "random:99999999999999", "random:" + "9" * 5000]
)
def test_random_features_within_reason(tmp_path: Path, recipe: str) -> None:
    with pytest.raises(UserError, match=r"is unknown; use|the memory of this machine"):
        load(write(tmp_path, {}) + f",features={recipe}")


def test_a_scratch_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, {}) + f",scratch={tmp_path}"
    before = sorted(tmp_path.iterdir())
    load(source)
    assert sorted(tmp_path.iterdir()) == before

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match=r"scratch=.*cannot keep the adjacency .*No space left"):
        load(source)


def test_near_file_name_is_suggested(tmp_path: Path) -> None:
    write(tmp_path, {})
    with pytest.raises(ValueError, match=r"did you mean 'graph\.npz'"):
        load(f"npz:{tmp_path}/grahp.npz")


def test_a_bad_features_recipe_names_the_good_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"features=random:64.*; sparse or dense store what there is"):
        load(write(tmp_path, {}) + ",features=ones")


def test_how_features_are_stored_can_be_chosen(tmp_path: Path) -> None:
    dense = arrays_of_a_graph()["feat"] * (arrays_of_a_graph()["feat"] > 0.5)
    for stored, expected in {"": "dense", ",features=sparse": "csr", ",features=dense": "dense"}.items():
        graph = load(write(tmp_path, {"feat": dense}) + stored)
        assert graph.feature_storage == expected
        assert sp.issparse(graph.features) == (expected == "csr")
    with pytest.raises(UserError, match="no node features; add features=degree"):
        load(write(tmp_path, {"feat": None}) + ",features=sparse")


def test_what_cannot_be_stored_so_is_one_line() -> None:
    given = {"edge_index": [[0, 1], [1, 2]], "labels": [0, 1, 0], "split": [1, 2, 3]}
    features = np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match="features stored csr are unknown; store them sparse or dense"):
        Graph.from_arrays(features=features, stored="csr", **given)
    with pytest.raises(
        UserError, match="features=sparse is about features that there are; use features=degree"
    ):
        Graph.from_arrays(features="sparse", **given)
    with pytest.raises(UserError, match="standardising sets all features, features=sparse stores"):
        Graph.from_arrays(features=features, stored="sparse", **given).standardised()
    with pytest.raises(UserError, match=r"features have shape \(3,\)"):
        Graph.from_arrays(features=features[0], stored="sparse", **given)
