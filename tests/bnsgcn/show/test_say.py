"""What the command prints is made fit for a terminal in one place."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnsgcn.show.say import complain_once, fit

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def test_control_characters_become_escapes() -> None:
    assert fit("Größe · 3\n  π") == "Größe · 3\n  π"
    assert fit("\x1b[2J\r\x00\x9b\u202e\udcff") == "\\x1b[2J \\x00\\x9b\\u202e\\udcff"
    assert all(fit(chr(code)).isprintable() for code in range(0x3000) if chr(code) != "\n")


def test_one_file_alone_prints() -> None:
    for path in LAUNCH.rglob("*.py"):
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert path.name == "say.py" or not called & {"print", "sys.stdout.write", "sys.stderr.write"}, path


def test_of_workers_side_by_side_one_says_what_all_have_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in ("0", "1", "2"):
        (tmp_path / rank).mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / rank / "error.json"))
        complain_once("the same")
        complain_once(f"rank {rank} alone")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone" / "0" / "error.json"))
    complain_once("the same")
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
    complain_once("the same")
    said = [line.removeprefix("bnsgcn: error: ") for line in capsys.readouterr().err.splitlines()]
    assert said == ["the same", "rank 0 alone", "rank 1 alone", "rank 2 alone", "the same", "the same"]


def test_a_reader_that_leaves_is_no_failure() -> None:
    call = [sys.executable, "-m", "launch.cli", "train", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(call, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_cannot_encode_gets_escapes(encoding: str) -> None:
    call = [sys.executable, "-m", "launch.cli", "inspect", "Größe-π"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ended = subprocess.run(call, capture_output=True, env=environment, check=False)
    assert ended.returncode == 2
    assert b"\\u03c0" in ended.stderr
    assert ended.stderr.count(b"\n") == 1
