"""A line an epoch: whole or not there, no hole and no double, whatever the run before left."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnsgcn.record.epoch_lines import EpochLines
from tests.killing import killed_at_every_step


def written(path: Path, epochs: int) -> EpochLines:
    lines = EpochLines(path)
    for epoch in range(epochs):
        lines.append({"epoch": epoch, "loss": 0.5})
    return lines


def epochs_of(lines: EpochLines) -> list[int]:
    return [entry["epoch"] for entry in lines.read()]


def test_lines_are_json_and_go_when_they_are_written_again(tmp_path: Path) -> None:
    lines = EpochLines(tmp_path / "metrics.jsonl")
    assert lines.read() == []
    lines.rewind(3)
    lines.sync()
    assert not lines.path.exists()
    lines.append({"epoch": 0, "loss": float("nan")})
    lines.append({"epoch": 1, "loss": 0.5})
    lines.sync()
    assert lines.read() == [{"epoch": 0, "loss": None}, {"epoch": 1, "loss": 0.5}]
    lines.rewind(1)
    assert epochs_of(lines) == [0]
    lines.rewind(0)
    assert lines.path.read_bytes() == b""


def test_a_file_that_is_right_is_not_written_again(tmp_path: Path) -> None:
    lines = written(tmp_path / "metrics.jsonl", 3)
    before = lines.path.stat()
    lines.rewind(3)
    assert (lines.path.stat().st_ino, lines.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


RUBBISH = [b"", b"\n", b"{", b"null\n", b"[1]\n", b'{"epoch": "2"}\n', b'{"epoch": true}\n', b"\xff\xfe\n"]
RUBBISH += [b"[" * 20_000 + b"\n", b'{"epoch": ' + b"9" * 5000 + b"}\n", b'{"epoch": 3, "lo']


@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
def test_what_is_no_line_is_dropped(rubbish: bytes, tmp_path: Path) -> None:
    lines = written(tmp_path / "metrics.jsonl", 3)
    with lines.path.open("ab") as file:
        file.write(rubbish)
    assert epochs_of(lines) == [0, 1, 2]
    lines.rewind(3)
    lines.append({"epoch": 3})
    assert epochs_of(lines) == [0, 1, 2, 3]
    assert len(lines.path.read_bytes().splitlines()) == 4


def test_a_line_cut_short_anywhere_goes(tmp_path: Path) -> None:
    whole = written(tmp_path / "metrics.jsonl", 4).path.read_bytes()
    for length in range(len(whole)):
        lines = EpochLines(tmp_path / "cut.jsonl")
        lines.path.write_bytes(whole[:length])
        found = epochs_of(lines)
        assert found == list(range(whole[:length].count(b"\n")))
        lines.rewind(9)
        assert epochs_of(lines) == found
        assert lines.path.read_bytes() == whole[: whole[:length].rfind(b"\n") + 1]


def test_lines_written_twice_count_once(tmp_path: Path) -> None:
    lines = EpochLines(tmp_path / "metrics.jsonl")
    lines.path.write_text("".join(json.dumps({"epoch": epoch}) + "\n" for epoch in (0, 1, 2, 1, 2, 3)))
    assert epochs_of(lines) == [0, 1, 2, 3]
    lines.rewind(3)
    assert lines.path.read_text().count("\n") == 3


def test_killed_while_it_is_rewound(tmp_path: Path) -> None:
    """It is the old or the new one, and rewound again the new one."""
    folders = (tmp_path / str(number) for number in itertools.count())

    def make() -> EpochLines:
        folder = next(folders)
        folder.mkdir()
        return written(folder / "metrics.jsonl", 6)

    for lines, _ in killed_at_every_step(make, lambda lines: lines.rewind(4)):
        assert epochs_of(lines) in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3])
        lines.rewind(4)
        assert epochs_of(lines) == [0, 1, 2, 3]
        assert os.listdir(lines.path.parent) == ["metrics.jsonl"]


def test_a_full_disk_takes_no_half_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if sys.platform != "linux" or subprocess.run(call, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    try:
        lines = EpochLines(disk / "metrics.jsonl")
        with pytest.raises(OSError, match=r"No space left on device.*metrics\.jsonl"):
            for epoch in itertools.count():
                lines.append({"epoch": epoch, "filler": epoch * 10**40})
        content = lines.path.read_bytes()
        assert content.endswith(b"\n")
        assert len(epochs_of(lines)) == epoch == content.count(b"\n") > 100
        with pytest.raises(OSError, match="No space left"):
            lines.append({"epoch": epoch, "filler": epoch * 10**40})
        assert lines.path.read_bytes() == content
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
