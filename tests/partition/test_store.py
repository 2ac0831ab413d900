"""A folder of parts is whole or it is an error of one line that names the file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from partition.build import partition_graph
from partition.errors import UserError
from partition.sources import load
from partition.store import ARRAYS, MANIFEST, open_part, read_manifest
from tests.partition.graphs import random_arcs, random_graph

SOURCE = "synthetic:nodes=200,degree=6,features=4,classes=3,communities=4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    partition_graph(SOURCE, parts=2, out=tmp_path / "parts")
    return tmp_path / "parts"


def assert_one_line(error: pytest.ExceptionInfo[ValueError]) -> None:
    assert "\n" not in str(error.value)


def test_manifest_says_what_is_there(folder: Path) -> None:
    manifest = read_manifest(folder)
    graph = load(SOURCE)
    assert (manifest.parts, manifest.num_nodes, manifest.num_arcs) == (2, 200, graph.num_arcs)
    assert (manifest.num_features, manifest.num_classes, manifest.task) == (4, 3, "single")
    assert manifest.num_train + manifest.num_val + manifest.num_test == 200
    assert manifest.source == SOURCE
    assert manifest.source_digest == graph.digest()
    assert len(manifest.files) == 2 * len(ARRAYS)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "part_00000", "part_00001"]


def test_arrays_are_mapped_and_writable_in_memory_only(folder: Path) -> None:
    part = open_part(folder, 1)
    assert isinstance(part.features, np.memmap)
    part.features[0, 0] += 1
    open_part(folder, 1)  # its SHA-256 is unchanged


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = partition_graph(SOURCE, parts=2, out=tmp_path / "again")
    assert again.files == read_manifest(folder).files
    other = partition_graph(SOURCE, parts=2, out=tmp_path / "other", method="random", seed=1)
    assert other.files != again.files
    assert other.digest != again.digest


@pytest.mark.parametrize("name", ["features", "boundary_rows", "inner_indptr"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "emptied"])
def test_a_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / "part_00001" / f"{name}.npy"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-3])
    elif damage == "flipped":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=str(path)) as error:
        open_part(folder, 1)
    assert_one_line(error)
    open_part(folder, 0)  # a worker reads its own part alone


def test_a_truncated_file_is_named_without_verifying_too(folder: Path) -> None:
    path = folder / "part_00000" / "features.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=str(path)) as error:
        open_part(folder, 0, verify=False)
    assert_one_line(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "not valid JSON"),
        (lambda text: "[]", "format version None, but this program reads 2"),
        (lambda text: text.replace('"format_version": 2', '"format_version": 1'), "format version 1"),
        (lambda text: text.replace('"seed"', '"speed"'), "keys missing or unknown: seed, speed"),
        (lambda text: text.replace('"num_nodes": 200', '"num_nodes": 201'), "200 nodes in all"),
        (lambda text: text.replace('"num_nodes": 200', '"num_nodes": "200"'), "num_nodes is '200'"),
        (lambda text: text.replace("part_00000/split.npy", "part_00009/split.npy"), "does not list"),
    ],
)
def test_a_damaged_manifest_is_named(folder: Path, change, message: str) -> None:
    path = folder / MANIFEST
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=str(path)) as error:
        open_part(folder, 0)
    assert message in str(error.value)
    assert_one_line(error)


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder of parts"):
        read_manifest(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"manifest\.json: not found"):
        read_manifest(tmp_path)


def test_part_beyond_the_last(folder: Path) -> None:
    with pytest.raises(ValueError, match="part 2 of 2; parts go from 0 to 1"):
        open_part(folder, 2)


def test_out_that_exists_is_refused_before_any_work(folder: Path) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="exists already"):
        partition_graph(SOURCE, parts=2, out=folder, progress=said.append)
    assert said == []


def test_more_parts_than_nodes(tmp_path: Path) -> None:
    graph = random_graph(np.random.default_rng(0), random_arcs(np.random.default_rng(0), 5, 9), 5)
    with pytest.raises(ValueError, match="6 parts for 5 nodes"):
        partition_graph(graph, parts=6, out=tmp_path / "parts")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"parts": 0}, "--parts 0 is out of range; use 1 to 16384"),
        ({"parts": 10**30}, "--parts 1000000000000000000000000000000 is out of range"),
        ({"parts": 2.5}, r"--parts 2\.5"),
        ({"seed": 2**64}, "--seed 18446744073709551616 is out of range; use 0 to 18446744073709551615"),
        ({"seed": 10**4000}, r"--seed 10000\d+\.\.\.0+ is out of range"),
        ({"seed": True}, "--seed True"),
        ({"method": "metsi"}, "did you mean 'metis'"),
        ({"objective": "area"}, "volume, cut"),
        ({"seed": -1}, "--seed -1"),
        ({"order": "sideways"}, "unknown order 'sideways'"),
    ],
)
def test_wrong_options(tmp_path: Path, option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        partition_graph(SOURCE, **{"parts": 2, "out": tmp_path / "parts", **option})
    assert_one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("partition.writer.FolderWriter.dense_rows", full)
    with pytest.raises(UserError, match=r"No space left .* MB were written .* MB are free") as error:
        partition_graph(SOURCE, parts=2, out=tmp_path / "new" / "folder" / "parts")
    assert_one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    graph = dataclasses.replace(load(SOURCE), num_classes=10**9)
    with pytest.raises(UserError, match="num_classes is 1000000000, out of range: 1 to 1000") as error:
        partition_graph(graph, parts=2, out=tmp_path / "parts")
    assert_one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_names_with_control_characters_can_be_read_back(tmp_path: Path) -> None:
    graph = dataclasses.replace(load(SOURCE), name="\x1b[2J\nx", source="\udc80")
    partition_graph(graph, parts=2, out=tmp_path / "parts")
    manifest = read_manifest(tmp_path / "parts")
    assert (manifest.name, manifest.source) == ("\\x1b[2J x", "\\udc80")


def test_progress_speaks_and_notes_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "edge_index": random_arcs(rng, 40, 100),
        "feat": rng.random((40, 2)),
        "label": rng.integers(0, 3, 40),
    }
    np.savez(tmp_path / "graph.npz", **arrays)
    said: list[str] = []
    partition_graph(f"npz:{tmp_path}/graph.npz", parts=2, out=tmp_path / "parts", progress=said.append)
    assert any("60/20/20" in line for line in said)
    assert any(line.startswith("wrote ") and "assign" in line for line in said)


def test_manifest_is_json_that_others_can_read(folder: Path) -> None:
    loaded = json.loads((folder / MANIFEST).read_text())
    assert loaded["parts"] == 2
    assert all(len(digest) == 64 for digest in loaded["files"].values())
