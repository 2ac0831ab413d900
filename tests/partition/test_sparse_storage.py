"""Sparse features on disk: when they stay sparse, what is written, and what is checked when it is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from partition import remembered
from partition.build import partition_graph
from partition.cache import cached_parts
from partition.errors import UserError
from partition.graph import TEST, TRAIN, VAL, Graph
from partition.manifest import MANIFEST, read_manifest
from partition.quality import inspect_parts
from partition.store import CsrFeatures, open_part, part_folder
from tests.partition.forged_parts import restate, rewrite

NODES, WIDE = 90, 200


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "PLACE", str(tmp_path / "checked"))


def features(width: int = WIDE, share: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(1)
    made = rng.standard_normal((NODES, width)).astype(np.float32)
    made[rng.random(made.shape) >= share] = 0
    made[1] = 0
    return made


def graph(found: object, stored: str = "") -> Graph:
    rng = np.random.default_rng(2)
    return Graph.from_arrays(
        rng.integers(0, NODES, (2, 300)),
        features=found,
        stored=stored,
        labels=np.arange(NODES) % 3,
        split=np.resize([TRAIN, VAL, TEST], NODES).astype(np.uint8),
        name="wide",
        source="wide",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    partition_graph(graph(sp.csr_matrix(features())), parts=2, out=tmp_path / "parts", method="random")
    return tmp_path / "parts"


def test_rows_are_those_of_the_graph_and_nothing_dense_is_written(folder: Path) -> None:
    assert read_manifest(folder).feature_storage == "csr"
    assert not (folder / part_folder(0) / "features.npy").exists()
    for index in range(2):
        part = open_part(folder, index)
        found = part.features
        assert isinstance(found, CsrFeatures)
        rows = sp.csr_matrix((found.values, found.columns, found.splits), (part.num_inner, WIDE))
        assert np.array_equal(rows.toarray(), features()[part.node_ids])
        quality = inspect_parts(folder)
        assert found.nbytes == quality.per_part[index].feature_bytes
        assert quality.features_set == np.count_nonzero(features()) / features().size
        assert found.nbytes < 4 * part.num_inner * WIDE / 4


def test_zeros_that_are_stored_are_not_written(tmp_path: Path) -> None:
    matrix = sp.csr_matrix(features())
    matrix.data[:7] = 0
    partition_graph(graph(matrix), parts=1, out=tmp_path / "parts")
    found = open_part(tmp_path / "parts", 0).features
    assert isinstance(found, CsrFeatures)
    assert found.values.size == matrix.nnz - 7
    assert matrix.nnz == np.count_nonzero(features())  # the caller's is as it was


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (sp.csr_matrix(features()), "they stay sparse"),
        (sp.csr_matrix(features(share=0.3)), "become dense; they would stay sparse with at most 10%"),
        (sp.csr_matrix(features(width=100)), "become dense"),
        (features(), None),
    ],
    ids=["sparse", "full", "narrow", "dense"],
)
def test_how_they_are_stored_is_said(found: object, said: str | None, tmp_path: Path) -> None:
    heard: list[str] = []
    manifest = partition_graph(graph(found), parts=1, out=tmp_path / "parts", progress=heard.append)
    lines = [line for line in heard if "sparse features" in line]
    assert len(lines) == (0 if said is None else 1)
    assert all(str(said) in line for line in lines)
    assert manifest.feature_storage == ("csr" if said == "they stay sparse" else "dense")


@pytest.mark.parametrize(
    ("found", "stored", "said"),
    [
        (sp.csr_matrix(features()), "dense", "they become dense (features=dense)"),
        (features(), "sparse", "they stay sparse, on disk and in training"),
        (features(share=0.3), "sparse", "they stay sparse, on disk and in training (features=sparse)"),
        (sp.csr_matrix(features(width=100)), "sparse", "in training (features=sparse)"),
    ],
    ids=["dense anyway", "set in a dense array", "much is set", "narrow"],
)
def test_how_they_are_stored_can_be_chosen(found: Any, stored: str, said: str, tmp_path: Path) -> None:
    heard: list[str] = []
    read = graph(found, stored)
    manifest = partition_graph(read, parts=2, out=tmp_path / "parts", method="random", progress=heard.append)
    assert [line for line in heard if line.endswith(said)]
    assert manifest.feature_storage == {"sparse": "csr", "dense": "dense"}[stored]
    whole = found.toarray() if sp.issparse(found) else found
    for index in range(2):
        part = open_part(tmp_path / "parts", index)
        rows = part.features
        if isinstance(rows, CsrFeatures):
            rows = sp.csr_matrix(
                (rows.values, rows.columns, rows.splits), (part.num_inner, whole.shape[1])
            ).toarray()
        assert np.array_equal(rows, whole[part.node_ids])
    kept = [cached_parts(each, 1, "random", root=tmp_path / "cache") for each in (read, graph(found, ""))]
    assert (kept[0] == kept[1]) == (read.feature_storage == graph(found).feature_storage)


def test_manifests_with_dense_features_are_as_they_were(tmp_path: Path) -> None:
    """Folders made before sparse storage was there open, and are the same partitioning."""
    manifest = partition_graph(graph(features()), parts=1, out=tmp_path / "parts")
    assert "feature_storage" not in json.loads((tmp_path / "parts" / MANIFEST).read_text())
    assert read_manifest(tmp_path / "parts").digest == manifest.digest


def changed(folder: Path, name: str, at: int, value: float) -> None:
    array = np.load(folder / part_folder(0) / f"{name}.npy")
    array[at] = value
    rewrite(folder, 0, name, array)


@pytest.mark.parametrize(
    ("name", "at", "value", "said"),
    [
        ("feature_splits", 5, -3, "falls at"),
        ("feature_splits", -1, 10**9, "but there are"),
        ("feature_columns", 0, WIDE, f"{WIDE} is out of range: 0 to {WIDE - 1}"),
        ("feature_columns", 0, -1, "-1 is out of range"),
        ("feature_columns", 1, 0, "within one list"),
        ("feature_values", 0, np.nan, "holds NaN or infinity"),
    ],
)
def test_what_was_tampered_with_is_refused(name: str, at: int, value: float, said: str, folder: Path) -> None:
    changed(folder, name, at, value)
    with pytest.raises(UserError, match=said) as error:
        open_part(folder, 0)
    assert f"{name}.npy" in str(error.value)
    if name != "feature_values":  # others index with the rest, so it is checked always
        with pytest.raises(UserError):
            open_part(folder, 0, verify=False)


def test_values_fit_their_columns(folder: Path) -> None:
    values = np.load(folder / part_folder(0) / "feature_values.npy")
    rewrite(folder, 0, "feature_values", values[:-1])
    with pytest.raises(UserError, match=rf"{values.size - 1} for {values.size} columns"):
        open_part(folder, 0)


@pytest.mark.parametrize("storage", ["coo", 3, None])
def test_storage_of_no_known_kind(storage: object, folder: Path) -> None:
    restate(folder, feature_storage=storage)
    with pytest.raises(UserError, match="feature_storage is"):
        read_manifest(folder)


def test_dense_claimed_of_sparse_files(folder: Path) -> None:
    restate(folder, feature_storage="dense")
    with pytest.raises(UserError, match=r"does not list part_00000/features\.npy"):
        open_part(folder, 0)
