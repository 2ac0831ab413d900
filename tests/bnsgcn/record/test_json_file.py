"""JSON files: whole or as before, an object or one line that says why not."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from bnsgcn.record.json_file import read_object, write_object
from partition.errors import UserError
from tests.killing import killed_at_every_step


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_object(path, {"final_loss": float("inf"), "config": {"lr": 0.1}, "each": (1, float("nan"))})
    assert read_object(path) == {"final_loss": None, "config": {"lr": 0.1}, "each": [1, None]}
    json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"null", "holds NoneType where an object is expected"),
        (b"[3]", "holds list where an object is expected"),
        (b"[" * 20_000 + b"]" * 20_000, "is nested too deeply"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "is nested too deeply"),
    ],
    ids=range(8),
)
def test_what_is_no_object_is_one_line(content: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^config.json {fault}") as refused:
        read_object(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_killed_while_it_is_written(tmp_path: Path) -> None:
    paths = (tmp_path / f"{number}.json" for number in itertools.count())

    def make() -> Path:
        path = next(paths)
        write_object(path, {"old": 1})
        return path

    found = []
    for path, _ in killed_at_every_step(make, lambda path: write_object(path, {"new": 2})):
        found.append(read_object(path))
        write_object(path, {"third": 3})
        assert not path.with_name(path.name + ".partial").exists()
    assert found == [{"old": 1}] * (len(found) - 1) + [{"new": 2}]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_object(path, {"old": 1})

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*summary\.json"):
        write_object(path, {"new": 2})
    assert read_object(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["summary.json"]
