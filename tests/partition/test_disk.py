"""Full disks: what was not finished is gone, and one line says why."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from partition import disk
from partition.adjacency import csr_from_arcs
from partition.build import partition_graph
from partition.disk import reserve, said_when_full, whole_folder
from partition.errors import UserError

LARGE = "synthetic:nodes=3000,degree=10,features=256,classes=3"  # 3 MB of features


def command(*arguments: str | Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """`bnsgcn partition` in a process of its own, whose files may have `limit` bytes."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    called = [sys.executable, "-m", "launch.cli", "partition", *map(str, arguments), "--method", "random"]
    return subprocess.run(called, capture_output=True, text=True, check=False, preexec_fn=limited)


def test_partition_on_a_full_disk(small_disk: Path) -> None:
    ended = command(LARGE, "--parts", "2", "--out", small_disk / "new" / "parts")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "No space left on device" in ended.stderr
    assert list(small_disk.iterdir()) == []


def test_partition_beyond_the_size_that_a_file_may_have(tmp_path: Path) -> None:
    ended = command(LARGE, "--parts", "2", "--out", tmp_path / "new" / "parts", limit=1_000_000)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "File too large: 1.1 MB were written and there is more, but" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_scratch_on_a_full_disk(small_disk: Path) -> None:
    source, target = np.random.default_rng(0).integers(0, 10**5, (2, 400_000))
    with pytest.raises(UserError, match="scratch=") as error:
        csr_from_arcs(source, target, 10**5, symmetrise=True, scratch=small_disk)
    assert "\n" not in str(error.value)
    assert list(small_disk.iterdir()) == []


def test_reserving_more_than_there_is(small_disk: Path) -> None:
    (small_disk / "file").touch()
    reserve(small_disk / "file", 500_000)
    with pytest.raises(UserError, match=r"No space left on device: 5 rows, but .* MB are free; think"):
        with said_when_full(small_disk / "file", "5 rows", "think"):
            reserve(small_disk / "file", 5_000_000)


def test_reserving_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    monkeypatch.setattr(disk, "BLOCK_BYTES", 1000)
    (tmp_path / "file").write_bytes(b"begin")
    reserve(tmp_path / "file", 5500)
    assert (tmp_path / "file").read_bytes() == b"begin" + bytes(5495)


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), said_when_full(tmp_path, "", ""):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """But not what is being written, nor what began a moment ago."""
    out = tmp_path / "parts"
    left, young, foreign = (tmp_path / f".{name}.unfinished-1" for name in ("parts", "parts.new", "other"))
    for folder in (left, young, foreign):
        (folder / "part_00000").mkdir(parents=True)
    fresh = tmp_path / ".parts.unfinished-2"
    fresh.mkdir()
    for folder in (left, foreign):
        os.utime(folder, (1, 1))
    with whole_folder(tmp_path / "parts") as busy:
        os.utime(busy, (1, 1))
        with pytest.raises(UserError, match="exists already"), whole_folder(out):
            (out.parent / "parts").mkdir()
        assert busy.is_dir()
        out.rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["parts", fresh.name, young.name, foreign.name]
    )


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    partition_graph("synthetic:nodes=50", parts=1, out=tmp_path / "parts", method="random")
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "parts"):
        pytest.fail("began")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "link"):
        pytest.fail("began")
