"""Archives that are damaged, cut short or lie about themselves: one line each, and no memory taken for it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from partition.errors import UserError
from partition.sources import load
from partition.sources.archive import LOCAL_HEADER, open_archive
from tests.partition.archives import changed, forged_npy, npy, write, write_members


def members() -> dict[str, bytes]:
    return {key: npy(array) for key, array in changed({}).items()}


def refused(source: str) -> str:
    with pytest.raises(UserError) as error:
        load(source)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path, compressed: bool) -> None:
    """One bit of the content of every array, its header included."""
    write(tmp_path, {}, compressed)
    path = tmp_path / "graph.npz"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    rng = np.random.default_rng(0)
    for entry in entries:
        lengths = LOCAL_HEADER.unpack_from(whole, entry.header_offset)[1:]
        start = entry.header_offset + LOCAL_HEADER.size + sum(lengths)
        for place in rng.integers(start, start + entry.compress_size - 4, 5):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(broken)
            assert entry.filename.removesuffix(".npy") in refused(f"npz:{path}"), place


def test_arrays_are_mapped_once_their_checksum_is_compared(tmp_path: Path) -> None:
    write(tmp_path, {"empty": np.zeros((0, 3)), "number": np.int64(3)})
    with open_archive(tmp_path / "graph.npz", lambda _: None) as arrays:
        for key, array in changed({}).items():
            assert isinstance(arrays[key], np.memmap)
            assert np.array_equal(arrays[key], array)
        assert (arrays["empty"].shape, int(arrays["number"])) == ((0, 3), 3)
        assert set(arrays) == {*changed({}), "empty", "number"}
        assert "nothing" not in arrays


def test_a_long_check_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partition.sources.archive.LARGE_BYTES", 200)
    said: list[str] = []
    load(write(tmp_path, {}), said.append)
    assert any("comparing the checksum of 'feat'" in line for line in said)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_version_of_the_header_is_read(
    tmp_path: Path, version: tuple[int, int], compressed: bool
) -> None:
    written = {key: npy(array, version) for key, array in changed({}).items()}
    assert load(write_members(tmp_path / "graph.npz", written, compressed)).num_nodes == 8


FEAT = "{'descr': '<f4', 'fortran_order': False, 'shape': (8, 3)}"
CONTENT = bytes(96)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("forged", "words"),
    [
        (forged_npy(FEAT.replace("(8, 3)", "(8, 4)"), CONTENT), "claims"),
        (forged_npy(FEAT, CONTENT + b"\0"), "claims"),
        (
            forged_npy(FEAT.replace("(8, 3)", "(8, 999999999999)"), CONTENT),
            "the archive holds 175",
        ),
        (forged_npy(FEAT.replace("(8, 3)", f"(8, {2**62})"), CONTENT), "claims"),
        (forged_npy(FEAT.replace("(8, 3)", f"(0, {2**70})")), "cannot be read"),
        (forged_npy(FEAT.replace("(8, 3)", "(-8, -3)"), CONTENT), r"shape is (-8, -3)"),
        (forged_npy(FEAT.replace("(8, 3)", "(True, 24)"), CONTENT), "shape is (True, 24)"),
        (forged_npy(FEAT.replace("<f4", "|O"), CONTENT), "dtype is object"),
        (forged_npy(FEAT.replace("<f4", "|V4"), CONTENT), "dtype is |V4"),
        (forged_npy(FEAT.replace("<f4", "<U0"), b""), "cannot be read"),
        (forged_npy(FEAT.replace("<f4", "<q\x1b"), CONTENT), "cannot be read"),
        (forged_npy(FEAT.replace("'<f4'", "[('a', '<f4')]"), CONTENT), "only plain numbers"),
        (forged_npy("{", CONTENT), "cannot be read"),
        (forged_npy("-" * 9000 + "1", CONTENT), "cannot be read"),
        (forged_npy("(" * 9000, CONTENT), "cannot be read"),
        (forged_npy("x" * 20_000, CONTENT), "cannot be read"),
        (forged_npy(FEAT, CONTENT, version=9), "npy version 9.0"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cannot be read"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "cannot be read"),
        (b"plain text", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_headers_that_lie(tmp_path: Path, forged: bytes, words: str, compressed: bool) -> None:
    message = refused(write_members(tmp_path / "graph.npz", {**members(), "feat": forged}, compressed))
    assert "array 'feat'" in message
    assert words in message


def test_an_array_larger_than_the_memory_is_not_read_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb: a few bytes that become many. Stored ones are mapped, whatever their size."""
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 90}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert "array 'feat' would take" in refused(write(tmp_path, {"edge_index": np.array([[0], [1]])}, True))
    assert load(write(tmp_path, {})).num_nodes == 8


def edited(path: Path, at: int, width: int, value: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + width] = value.to_bytes(width, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("field", "width", "value"),
    [
        (42, 4, 0xFFFFFF00),  # where the member starts: beyond the file
        (42, 4, 17),  # where no member starts
        (20, 4, 3),  # compressed size
        (24, 4, 0x7FFFFFFF),  # size
        (24, 4, 3),
        (16, 4, 12345),  # checksum
        (10, 2, 77),  # an unknown compression
        (8, 2, 1),  # encrypted
        (28, 2, 60_000),  # length of the name
        (46, 1, 0xFF),  # the name
    ],
)
def test_directories_that_lie(tmp_path: Path, field: int, width: int, value: int, compressed: bool) -> None:
    """Fields of the first member's entry in the central directory; the first member is `edge_index`."""
    source = write_members(tmp_path / "graph.npz", members(), compressed)
    directory = (tmp_path / "graph.npz").read_bytes().index(b"PK\x01\x02")
    edited(tmp_path / "graph.npz", directory + field, width, value)
    assert str(tmp_path) in refused(source)


@pytest.mark.parametrize(
    ("field", "width", "value"), [(16, 4, 0xFFFFFFF0), (12, 4, 0xFFFFFFF0), (10, 2, 65535), (20, 2, 9)]
)
def test_ends_that_lie(tmp_path: Path, field: int, width: int, value: int) -> None:
    """Fields of the end of the central directory."""
    source = write_members(tmp_path / "graph.npz", members())
    end = (tmp_path / "graph.npz").read_bytes().index(b"PK\x05\x06")
    edited(tmp_path / "graph.npz", end + field, width, value)
    if field in (10, 20):  # the number of entries and the comment's length, which nobody needs
        assert load(source).num_nodes == 8
    else:
        assert str(tmp_path) in refused(source)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    source = write_members(tmp_path / "graph.npz", members())
    with zipfile.ZipFile(tmp_path / "graph.npz", "a") as archive:
        archive.writestr("feat.npy", npy(np.ones((8, 3), np.float32)))
    assert "two members are called 'feat.npy'" in refused(source)


def test_members_that_are_no_arrays_are_left_alone(tmp_path: Path) -> None:
    source = write_members(tmp_path / "graph.npz", members())
    with zipfile.ZipFile(tmp_path / "graph.npz", "a") as archive:
        archive.writestr("README.txt", "about this graph")
        archive.writestr("feat", "not an array")
    assert load(source).num_features == 3


def test_truth_values_other_than_0_and_1_are_refused(tmp_path: Path) -> None:
    """NumPy adds up the bytes of a mask before it lists the places: with others it may write astray."""
    header = "{'descr': '|b1', 'fortran_order': False, 'shape': (8,)}"
    forged = forged_npy(header, bytes([0, 0xFF, 2, 1, 0, 0, 0, 0]))
    message = refused(write_members(tmp_path / "graph.npz", {**members(), "train_idx": forged}))
    assert "neither 0 nor 1" in message


def test_text_beyond_unicode_is_refused(tmp_path: Path) -> None:
    """Python's own strings come apart on it."""
    forged = forged_npy("{'descr': '<U2', 'fortran_order': False, 'shape': ()}", b"a\0\0\0\xff\xff\xff\x7f")
    message = refused(write_members(tmp_path / "graph.npz", {**members(), "meta": forged}))
    assert "beyond Unicode" in message


def test_what_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"empty.npz": b"", "text.npz": b"hello " * 500, "one.npz": npy(np.ones(3))}.items():
        (tmp_path / name).write_bytes(content)
        assert f"{name}: not a whole NumPy archive (File is not a zip file)" in refused(
            f"npz:{tmp_path}/{name}"
        )
    assert f"{tmp_path}: not a file" in refused(f"npz:{tmp_path}")
    assert "/dev/null: not a file" in refused("npz:/dev/null")
    source = write(tmp_path, {})
    real = Path.open

    def closed(path: Path, *options: object, **more: object) -> object:
        if path.name == "graph.npz":  # the superuser may open everything
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *options, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", closed)
    assert refused(source).endswith("graph.npz: cannot be opened (Permission denied)")
