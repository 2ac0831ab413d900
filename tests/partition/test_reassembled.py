"""From parts to other parts without the source: the same graph, or a line that says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from partition.assign import Recipe
from partition.build import partition_graph
from partition.errors import UserError
from partition.features import dense_features
from partition.graph import Graph
from partition.manifest import Manifest, read_manifest
from partition.reassembled import graph_of_parts, repartition
from partition.store import file_digest
from tests.bnsgcn.small_graphs import PartsFolder, folder_maker, small_graph

KINDS = ["single", "multi", "directed", "sparse", "weighted", "oneway", "sparse weighted"]


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> PartsFolder:
    """Parts of small graphs, made once."""
    return folder_maker(tmp_path_factory.mktemp("parts"))


def silent(_: str) -> None:
    """Nobody listens."""


def again(folder: Path, parts: int, out: Path, method: str = "metis") -> Manifest:
    return repartition(folder, Recipe(parts=parts, method=method), out=out, progress=silent).manifest


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_comes_back_and_its_cut_is_that_of_the_source(
    kind: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    graph, found = small_graph(kind), graph_of_parts(parts_folder(kind, 4), silent)
    assert found.digest() == graph.digest() == read_manifest(parts_folder(kind, 4)).source_digest
    made = again(parts_folder(kind, 4), 3, tmp_path / "three")
    straight = partition_graph(graph, parts=3, out=tmp_path / "straight")
    assert made == straight, "to the last bit of every file"
    assert made.graph_digest == read_manifest(parts_folder(kind, 4)).graph_digest
    assert made.digest != read_manifest(parts_folder(kind, 4)).digest


def test_what_was_stored_in_another_form_is_the_same_graph(tmp_path: Path) -> None:
    """Sparse features that parts hold dense, and zeros that were written out, are not in the parts so."""
    plain = small_graph("sparse")
    zeros = sp.csr_matrix(plain.features, copy=True)
    zeros.data[0] = 0
    for name, features, stored in (("dense", plain.features, "dense"), ("zeros", zeros, "")):
        graph = Graph(
            adjacency=plain.adjacency, features=features, stored=stored, labels=plain.labels,
            split=plain.split, num_classes=plain.num_classes, task=plain.task,
        )  # fmt: skip
        first = partition_graph(graph, parts=2, out=tmp_path / name)
        second = again(tmp_path / name, 3, tmp_path / f"{name} again", "random")
        assert second.graph_digest == first.graph_digest
        assert second.feature_storage == first.feature_storage
        found = graph_of_parts(tmp_path / f"{name} again", silent)
        assert np.array_equal(dense_features(found.features), dense_features(features))


def test_a_directed_graph_is_another_than_the_same_arcs_undirected(tmp_path: Path) -> None:
    plain = small_graph("single")
    digests = {
        partition_graph(
            Graph(
                adjacency=plain.adjacency, features=plain.features, labels=plain.labels, split=plain.split,
                num_classes=plain.num_classes, task=plain.task, directed=directed,
            ),
            parts=2, out=tmp_path / str(directed),
        ).graph_digest
        for directed in (False, True)
    }  # fmt: skip
    assert len(digests) == 2


def refused(folder: Path, parts: int, out: Path, method: str = "metis") -> str:
    with pytest.raises(UserError) as error:
        again(folder, parts, out, method)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mistakes_are_one_line_and_leave_nothing(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, out = parts_folder("single", 2), tmp_path / "out"
    assert "49 parts for 48 nodes: every part needs a node; use --parts 48 or fewer" in refused(
        folder, 49, out
    )
    assert "did not come in parts; use --method metis" in refused(folder, 2, out, "source")
    assert "no such folder of parts" in refused(tmp_path / "nowhere", 2, out)
    assert "exists already; name another --out" in refused(folder, 3, folder)
    assert list(tmp_path.iterdir()) == []


def altered(folder: Path, copy: Path, part: int, name: str, change: object) -> Path:
    """A copy with one array changed by `change`, and a manifest that vouches for it."""
    shutil.copytree(folder, copy)
    path = copy / f"part_{part:05d}" / f"{name}.npy"
    array = np.load(path)
    change(array)  # type: ignore[operator]
    np.save(path, array)
    stored = json.loads((copy / "manifest.json").read_text())
    stored["files"][f"part_{part:05d}/{name}.npy"] = file_digest(path)
    (copy / "manifest.json").write_text(json.dumps(stored))
    return copy


def test_parts_that_are_not_of_one_graph_are_refused(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, out = parts_folder("single", 2), tmp_path / "out"

    def another_split(split: np.ndarray) -> None:
        first = int(np.flatnonzero(split == 1)[0])
        split[first] = 3

    forged = altered(folder, tmp_path / "split", 0, "split", another_split)
    assert "parts" in refused(forged, 3, out)

    def another_id(node_ids: np.ndarray) -> None:
        other = np.load(folder / "part_00001" / "node_ids.npy")
        node_ids[0] = other[0]

    forged = altered(folder, tmp_path / "ids", 0, "node_ids", another_id)
    assert "node ids" in refused(forged, 3, out)
    path = forged / "part_00001" / "features.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert "truncated or altered" in refused(forged, 3, out)
    assert not out.exists()
