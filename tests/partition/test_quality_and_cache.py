"""Figures of a partitioning against counting by hand, and the cache of parts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from partition.assign import Recipe, assign
from partition.build import partition_graph
from partition.cache import _state, cached_parts
from partition.quality import inspect_parts
from partition.sources import parse
from partition.store import open_part
from partition.volume import cut_arcs, total_volume, volume_matrix
from tests.partition.graphs import arc_set, random_arcs, random_graph, read_parts

SOURCE = "synthetic:nodes=300,degree=8,features=4,classes=3,communities=4"


def volume_by_hand(graph, part_of: np.ndarray, parts: int) -> np.ndarray:
    matrix = np.zeros((parts, parts), np.int64)
    for node, reader in {(a, part_of[b]) for a, b in arc_set(graph) if part_of[a] != part_of[b]}:
        matrix[part_of[node], reader] += 1
    return matrix


@pytest.mark.parametrize("directed", [False, True])
def test_volume_counts_each_row_once_per_reader(directed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    graph = random_graph(rng, random_arcs(rng, 40, 160), 40, directed=directed)
    part_of = rng.integers(0, 3, 40).astype(np.int32)
    expected = volume_by_hand(graph, part_of, 3)
    assert np.array_equal(volume_matrix(graph, part_of, 3), expected)
    monkeypatch.setattr("partition.volume.CHUNK_ENTRIES", 7)  # many small blocks
    assert np.array_equal(volume_matrix(graph, part_of, 3), expected)
    assert total_volume(graph, part_of, 3) == expected.sum()
    assert cut_arcs(graph, part_of) == sum(part_of[a] != part_of[b] for a, b in arc_set(graph))
    if directed:  # the transposed reading is another number: the direction matters
        assert not np.array_equal(expected, expected.T)


@pytest.mark.parametrize("directed", [False, True])
def test_inspect_agrees_with_the_assignment(tmp_path: Path, directed: bool) -> None:
    rng = np.random.default_rng(4)
    graph = random_graph(rng, random_arcs(rng, 60, 240), 60, directed=directed)
    partition_graph(graph, parts=3, out=tmp_path / "parts", method="random", seed=2)
    part_of = assign(graph, Recipe(parts=3, method="random", seed=2), lambda _: None)
    expected = volume_by_hand(graph, part_of, 3)
    quality = inspect_parts(tmp_path / "parts")
    assert np.array_equal(quality.volume, expected)
    assert quality.total_volume == expected.sum()
    assert quality.halo_per_node == expected.sum() / 60
    assert quality.edge_cut == cut_arcs(graph, part_of) // (1 if directed else 2)
    for part, row in zip(read_parts(tmp_path / "parts"), quality.per_part, strict=True):
        assert (row.inner_nodes, row.halo_slots, row.boundary_rows) == (
            part.num_inner, part.num_halo, part.boundary_rows.size,
        )  # fmt: skip
        assert row.send_rows == expected[row.part].sum()
        assert row.recv_rows == expected[:, row.part].sum()
        assert row.arcs == part.in_degree.sum()
        assert row.train_nodes == (part.split == 1).sum()
        assert row.feature_bytes == part.features.nbytes
    sends = expected.sum(axis=1)
    assert quality.worst_over_mean["send_rows"] == pytest.approx(sends.max() / sends.mean())


def test_json_has_the_promised_keys(tmp_path: Path) -> None:
    partition_graph(SOURCE, parts=2, out=tmp_path / "parts")
    loaded = json.loads(json.dumps(inspect_parts(tmp_path / "parts").to_json()))
    for key in ("num_nodes", "num_arcs", "parts", "edge_cut", "total_volume", "halo_per_node", "per_part"):
        assert key in loaded
    wanted = {"send_rows", "recv_rows", "inner_nodes", "arcs", "train_nodes"}
    assert wanted <= set(loaded["worst_over_mean"])
    assert len(loaded["per_part"]) == 2


def test_components(tmp_path: Path) -> None:
    clique = np.array([(a, b) for a in range(6) for b in range(a)]).T
    graph = random_graph(np.random.default_rng(1), np.concatenate([clique, clique + 6], axis=1), 14)
    np.save(tmp_path / "parts.npy", np.array([0] * 12 + [1] * 2))
    partition_graph(graph, parts=2, out=tmp_path / "parts", method=f"file:{tmp_path}/parts.npy")
    quality = inspect_parts(tmp_path / "parts")
    assert [part.components for part in quality.per_part] == [2, 2]  # two cliques; two isolated nodes


def test_worst_part_comes_first(tmp_path: Path) -> None:
    partition_graph(SOURCE, parts=4, out=tmp_path / "parts", method="random")
    quality = inspect_parts(tmp_path / "parts")
    first = quality.worst_first()[0]
    assert sorted(part.part for part in quality.worst_first()) == [0, 1, 2, 3]
    worst = max(part.send_rows for part in quality.per_part) / np.mean(
        [p.send_rows for p in quality.per_part]
    )
    assert any(
        getattr(first, key) / np.mean([getattr(part, key) for part in quality.per_part]) >= worst
        for key in ("send_rows", "recv_rows", "arcs", "inner_nodes")
    )


def test_one_part_has_nothing_to_send(tmp_path: Path) -> None:
    partition_graph(SOURCE, parts=1, out=tmp_path / "parts")
    quality = inspect_parts(tmp_path / "parts")
    assert (quality.total_volume, quality.edge_cut, quality.worst_over_mean["send_rows"]) == (0, 0, 1.0)


def test_metis_beats_random(tmp_path: Path) -> None:
    for method in ("metis", "random"):
        partition_graph(SOURCE, parts=4, out=tmp_path / method, method=method)
    metis, random = (inspect_parts(tmp_path / method) for method in ("metis", "random"))
    assert metis.total_volume < 0.7 * random.total_volume


def test_cache_partitions_once(tmp_path: Path) -> None:
    said: list[str] = []
    first = cached_parts(SOURCE, 2, root=tmp_path, progress=said.append)
    spoken = len(said)
    assert spoken > 0
    assert cached_parts(SOURCE, 2, root=tmp_path, progress=said.append) == first
    assert len(said) == spoken
    assert cached_parts(SOURCE, 3, root=tmp_path) != first
    assert cached_parts(SOURCE, 2, seed=1, root=tmp_path) != first


def test_cache_notices_a_changed_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "graph.npz"
    arrays = {"feat": rng.random((40, 2)), "label": rng.integers(0, 3, 40)}
    np.savez(path, edge_index=random_arcs(rng, 40, 100), **arrays)
    first = cached_parts(f"npz:{path}", 2, root=tmp_path)
    np.savez(path, edge_index=random_arcs(rng, 40, 100), **arrays)
    os.utime(path, ns=(1, 1))
    assert cached_parts(f"npz:{path}", 2, root=tmp_path) != first


def test_cache_notices_another_assignment_file(tmp_path: Path) -> None:
    """The name is the same, what is in it is not."""
    file = tmp_path / "parts.npy"
    np.save(file, np.arange(300) % 2)
    first = cached_parts(SOURCE, 2, method=f"file:{file}", root=tmp_path)
    state = file.stat()
    np.save(file, np.arange(300) // 150)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = cached_parts(SOURCE, 2, method=f"file:{file}", root=tmp_path)
    assert first != second
    assert open_part(second, 0).node_ids.max() == 149
    with pytest.raises(ValueError, match="no such file"):
        cached_parts(SOURCE, 2, method=f"file:{tmp_path}/gone.npy", root=tmp_path)


def test_cache_notices_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_parts(SOURCE, 2, root=tmp_path)
    monkeypatch.setattr("partition.cache._program", lambda: "another version of METIS")
    assert cached_parts(SOURCE, 2, root=tmp_path) != first


def test_cache_notices_a_changed_file_inside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set" / "raw").mkdir(parents=True)
    spec = parse(f"dgl:{tmp_path}/set")
    before = _state(spec)
    (tmp_path / "set" / "raw" / "edges").write_text("1")
    between = _state(spec)
    (tmp_path / "set" / "raw" / "edges").write_text("12")
    assert len({before, between, _state(spec)}) == 3
