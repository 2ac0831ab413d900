"""Forged parts with right checksums: each is refused in one line, or opens and is harmless."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partition import remembered
from partition.build import partition_graph
from partition.errors import UserError
from partition.manifest import MANIFEST, read_manifest
from partition.quality import inspect_parts
from partition.store import open_part, part_folder
from tests.partition.forged_parts import restate, rewrite

SOURCE = "synthetic:nodes=60,degree=5,features=3,classes=3,communities=4"


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "PLACE", str(tmp_path / "checked"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    partition_graph(SOURCE, parts=3, out=tmp_path / "parts", method="random")
    return tmp_path / "parts"


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


def test_hundreds_of_forgeries_in_one_process(folder: Path) -> None:
    """Opened one after the other in a process of their own, so that a crash would be seen."""
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-m", "tests.partition.forged_parts"]
    home = {**os.environ, "HOME": str(folder.parent)}
    ended = subprocess.run(
        [*command, str(folder), "300", "7"], capture_output=True, text=True, env=home, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["cases"] == 300
    assert found["refused"] > 240  # the others changed nothing, or only values that nothing contradicts


def falling(array: np.ndarray) -> np.ndarray:
    array[1] = 10**12
    return array


def at(place: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


def first_twice(array: np.ndarray) -> np.ndarray:
    array[1] = array[0]
    return array


def infinite(array: np.ndarray) -> np.ndarray:
    array[3, 1] = np.inf
    return array


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("inner_indptr", falling, "inner_indptr.npy: falls at 1"),
        ("halo_indptr", falling, "halo_indptr.npy: falls at 1"),
        ("halo_indptr", at(0, -1), "halo_indptr.npy: from -1"),
        ("inner_indices", at(0, 10**6), "1000000 is out of range: 0 to 19"),
        ("inner_indices", at(-1, -1), "-1 is out of range"),
        ("halo_indices", np.flip, "follows"),
        ("halo_ids", np.flip, "they do not ascend"),
        ("halo_ids", at(-1, 10**9), "1000000000 is out of range: 0 to 59"),
        ("halo_splits", at(1, 5), "halo_splits.npy: 5 at 1, but halo_ids say 1"),
        ("boundary_rows", at(0, -1), "-1 is out of range: 0 to 19"),
        ("boundary_rows", np.flip, "follows"),
        ("boundary_rows", first_twice, "follows"),
        ("boundary_splits", at(1, 10**9), "boundary_splits.npy: falls"),
        ("in_degree", at(4, 77), "77 of row 4"),
        ("out_degree", at(4, 0), "0 of row 4"),
        ("labels", at(2, -2), "-2 is out of range: -1 to 2"),
        ("labels", at(2, 3), "3 is out of range: -1 to 2"),
        ("split", at(7, 9), "9 is out of range: 0 to 3"),
        ("halo_split", at(0, 4), "4 is out of range"),
        ("node_ids", first_twice, "is there twice"),
        ("node_ids", at(0, -5), "-5 is out of range: 0 to 59"),
        ("features", infinite, "row 3 holds NaN or infinity"),
        ("features", lambda array: array[:, :2], "shape [20, 2], but the manifest says [20, 3]"),
        ("labels", lambda array: array.astype(np.int32), "int32 of shape [20], but int64"),
        ("labels", lambda array: array.astype(">i8"), ">i8 of shape [20], but int64"),
        ("in_degree", lambda array: array[:, None], "shape [20, 1]"),
        ("features", np.asfortranarray, "column-wise float32"),
    ],
)
def test_what_does_not_fit_is_named(
    folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    rewrite(folder, 1, name, change(np.load(folder / part_folder(1) / f"{name}.npy")))
    line = refusal(lambda: open_part(folder, 1))
    assert said in line
    assert line.startswith(str(folder / part_folder(1)))
    open_part(folder, 0)
    if name != "features" or "shape" in said or "wise" in said:
        assert said in refusal(lambda: inspect_parts(folder))
        assert said in refusal(lambda: open_part(folder, 1, verify=False))


def test_one_way_arcs_of_an_undirected_graph_are_refused(tmp_path: Path) -> None:
    """Kernels use an undirected block as its own transpose. 0 -> 1 -> 2 -> 0 has the right degrees."""
    partition_graph(SOURCE, parts=1, out=tmp_path / "parts", method="random", order="none")
    splits = np.zeros(61, np.int64)
    splits[1:4], splits[4:] = (1, 2, 3), 3
    rewrite(tmp_path / "parts", 0, "inner_indptr", splits)
    rewrite(tmp_path / "parts", 0, "inner_indices", np.array([2, 0, 1], np.int32))
    for name in ("in_degree", "out_degree"):
        rewrite(tmp_path / "parts", 0, name, np.diff(splits).astype(np.int32))
    assert "some arcs go one way" in refusal(lambda: open_part(tmp_path / "parts", 0))
    restate(tmp_path / "parts", directed=True)
    open_part(tmp_path / "parts", 0)


def test_a_self_loop_is_refused(tmp_path: Path) -> None:
    partition_graph(SOURCE, parts=1, out=tmp_path / "parts", method="random", order="none")
    columns = np.load(tmp_path / "parts" / part_folder(0) / "inner_indices.npy")
    columns[0] = 0
    rewrite(tmp_path / "parts", 0, "inner_indices", columns)
    assert "a self loop" in refusal(lambda: open_part(tmp_path / "parts", 0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x93NUMPY\x02\x00\x76\x00\x00\x00" + b" " * 118, "npy format version (2, 0), expected (1, 0)"),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000, "not a whole array file"),
        (b"", "not a whole array file"),
    ],
)
def test_headers_that_numpy_stumbles_over(folder: Path, content: bytes, said: str) -> None:
    rewrite(folder, 1, "split", content)
    assert said in refusal(lambda: open_part(folder, 1))


def test_parts_that_do_not_fit_each_other(folder: Path) -> None:
    """Each part is sound alone; together they would exchange the wrong rows."""
    part = open_part(folder, 0)
    rows, listed = np.array(part.boundary_rows), slice(*part.boundary_splits[1:3])
    others = np.setdiff1d(np.arange(part.num_inner), rows[listed])
    rows[listed] = np.sort([others[0], *rows[listed][1:]])
    rewrite(folder, 0, "boundary_rows", rows)
    open_part(folder, 0)
    assert "rows of part 0 for part 1 are not the halo slots that part 1" in refusal(
        lambda: inspect_parts(folder)
    )


def test_splits_of_halo_slots_are_those_of_their_owners(folder: Path) -> None:
    split = np.array(open_part(folder, 0).halo_split)
    split[0] = (split[0] + 1) % 4
    rewrite(folder, 0, "halo_split", split)
    assert "are not the halo slots" in refusal(lambda: inspect_parts(folder))


@pytest.mark.parametrize("name", ["num_train", "num_val", "num_test", "num_arcs"])
def test_counts_of_the_manifest_are_those_of_the_parts(folder: Path, name: str) -> None:
    stated = getattr(read_manifest(folder), name)
    restate(folder, **{name: stated + 1})
    assert f"{name} is {stated + 1}, but the parts have {stated}" in refusal(lambda: inspect_parts(folder))


def test_a_node_belongs_to_one_part(folder: Path) -> None:
    ids = np.array(open_part(folder, 1).node_ids)
    ids[0] = open_part(folder, 0).node_ids[0]
    rewrite(folder, 1, "node_ids", ids)
    open_part(folder, 1)
    assert "node ids is" in refusal(lambda: inspect_parts(folder))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"num_features": 10**30}, "num_features is 1000000000000000000000000000000, out of range"),
        ({"num_classes": -1}, "num_classes is -1, out of range: 1"),
        ({"num_classes": 1001}, "num_classes is 1001, out of range: 1 to 1000"),
        ({"num_arcs": float("nan")}, "num_arcs is nan, which is no int"),
        ({"num_train": 61}, "num_train is 61, out of range: 1 to 60"),
        ({"seed": 10**400}, "seed is 1000000"),
        ({"parts": True}, "parts is True, which is no int"),
        ({"part_nodes": [20, 20, 20.0]}, "part_nodes is [20, 20, 20.0]"),
        ({"part_nodes": [20, 40, 0]}, "part_nodes is [20, 40, 0]; every part has 1 to"),
        ({"part_nodes": [2**60, 60 - 2**60]}, "every part has 1 to"),
        ({"task": "both"}, "task is 'both', neither single nor multi"),
        ({"directed": 1}, "directed is 1, which is no bool"),
        ({"files": {"part_00000/split.npy": 5}}, "the digest of 'part_00000/split.npy' is 5"),
        ({"name": ["\x1b[2J"]}, "name is ['\\x1b[2J'], which is no str"),
        ({"\x1b[2J" * 99: 1}, "keys missing or unknown"),
    ],
)
def test_a_forged_manifest_is_one_line(folder: Path, facts: dict[str, Any], said: str) -> None:
    restate(folder, **facts)
    line = refusal(lambda: read_manifest(folder))
    assert said in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "text", ["[" * 20_000, '{"a":' * 20_000, "9" * 5000, "\xff\xfe", "", "null", '{"format_version": true}']
)
def test_a_manifest_that_is_no_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    assert re.search("not valid JSON|format version", refusal(lambda: read_manifest(folder)))


def test_a_part_is_checked_once_and_hashed_every_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr("partition.store.check_values", lambda part, _: checked.append(part.index))
    open_part(folder, 0)
    open_part(folder, 0)
    open_part(folder, 1)
    assert checked == [0, 1]
    restate(folder, name="another")  # a part of another folder, as far as anybody knows
    open_part(folder, 0)
    assert checked == [0, 1, 0]
    path = folder / part_folder(0) / "features.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    assert "truncated or altered" in refusal(lambda: open_part(folder, 0))


def test_memory_that_others_can_write_counts_for_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    monkeypatch.setattr("partition.store.check_values", lambda part, _: checked.append(part.index))
    open_part(folder, 0)
    (tmp_path / "checked").chmod(0o666)
    open_part(folder, 0)
    assert checked == [0, 0]
    monkeypatch.setattr(remembered, "PLACE", "/dev/full/nowhere")
    open_part(folder, 0)
    assert checked == [0, 0, 0]


def test_the_memory_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 200)
    keys = [remembered.key_of(number) for number in range(9)]
    for key in keys:
        remembered.remember(key)
        assert remembered.is_remembered(key)
    assert not remembered.is_remembered(keys[0])
    assert (tmp_path / "checked").stat().st_size < 300
