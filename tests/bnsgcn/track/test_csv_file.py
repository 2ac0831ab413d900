"""metrics.csv says what metrics.jsonl says, whatever a run went through."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.track.csv_file import CsvFile
from tests.bnsgcn.small_graphs import PartsFolder
from tests.bnsgcn.track.tracked import CONFIG, fitted, killed_and_resumed

CSV = dataclasses.replace(CONFIG, track="csv")


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def expected(run_dir: Path) -> list[dict[str, str]]:
    lines = RunFolder(run_dir).metrics()
    names = dict.fromkeys(name for line in lines for name in line)
    return [{name: str(line.get(name, "")) for name in names} for line in lines]


def sorted_rows(found: list[dict[str, str]]) -> list[list[tuple[str, str]]]:
    return [sorted(row.items()) for row in found]


def test_killed_and_resumed_it_has_every_epoch_once(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_and_resumed(parts_folder("single", 1), tmp_path, CSV, monkeypatch)
    assert [int(row["epoch"]) for row in rows(tmp_path)] == list(range(12))
    assert sorted_rows(rows(tmp_path)) == sorted_rows(expected(tmp_path))
    assert rows(tmp_path)[3]["val_score"]
    assert not rows(tmp_path)[4]["val_score"]


def test_a_tracker_that_is_asked_for_later_has_the_earlier_epochs(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder = parts_folder("single", 1)
    fitted(folder, tmp_path, dataclasses.replace(CONFIG, epochs=4))
    assert not (tmp_path / "metrics.csv").exists()
    fitted(folder, tmp_path, dataclasses.replace(CSV, resume=True))
    assert sorted_rows(rows(tmp_path)) == sorted_rows(expected(tmp_path))


def test_a_name_that_no_epoch_before_had_gets_a_column(tmp_path: Path) -> None:
    run, tracker = RunFolder(tmp_path), CsvFile(tmp_path)
    lines: list[dict[str, Any]] = [
        {"epoch": 0, "loss": 1.5},
        {"epoch": 1, "loss": 1.0, "val_score": 0.5},
        {"epoch": 2, "loss": 0.5, "sampling/relative_error": 0.1},
    ]
    tracker.on_start({})
    for line in lines:
        run.log_epoch(line)
        tracker.on_epoch(line)
    assert [row["loss"] for row in rows(tmp_path)] == ["1.5", "1.0", "0.5"]
    assert rows(tmp_path)[1]["val_score"] == "0.5"
    assert [row["sampling/relative_error"] for row in rows(tmp_path)] == ["", "", "0.1"]
