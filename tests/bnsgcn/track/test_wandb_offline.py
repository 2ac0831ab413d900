"""Offline runs of Weights & Biases, read back record by record. They need not be installed for the tests."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bnsgcn.small_graphs import PartsFolder
from tests.bnsgcn.track.tracked import CONFIG, curves, killed_and_resumed

wandb = pytest.importorskip("wandb")

BLOCK, FULL, LAST = 1 << 15, 1, 4
WANDB = dataclasses.replace(CONFIG, track="wandb")


def records(run_dir: Path) -> list[Any]:
    """Of the one offline run that there is."""
    from wandb.proto import wandb_internal_pb2

    (path,) = (run_dir / "wandb").glob("offline-run-*/run-*.wandb")
    return [wandb_internal_pb2.Record.FromString(piece) for piece in pieces(path.read_bytes())]


def pieces(log: bytes) -> Iterator[bytes]:
    """The entries of a log in LevelDB's format, after wandb's header of 7 bytes."""
    place, whole = 7, b""
    while place < len(log):
        if BLOCK - place % BLOCK < 7:  # no room for a header: the rest of the block is empty
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        whole += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""


def test_killed_and_resumed_the_curves_are_those_of_the_lines(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    summary = killed_and_resumed(parts_folder("single", 1), tmp_path, WANDB, monkeypatch, wandb.teardown)
    found = records(tmp_path)
    points: dict[str, list[tuple[int, float]]] = {}
    for record in found:
        if record.WhichOneof("record_type") == "history":
            row = {
                item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item
            }
            for name, value in row.items():
                points.setdefault(name, []).append((row["_step"], value))
    for name, expected in curves(tmp_path).items():
        assert [step for step, _ in points[name]] == [epoch for epoch, _ in expected], name
        assert [value for _, value in points[name]] == pytest.approx([value for _, value in expected])
    text = "".join(str(record) for record in found if record.WhichOneof("record_type") != "history")
    assert "hidden" in text
    assert "final/test_score" in text
    assert summary["epochs"] == 12
    left = [process.name() for process in psutil.Process().children(recursive=True)]
    assert not [name for name in left if "wandb" in name], "its process has ended"
