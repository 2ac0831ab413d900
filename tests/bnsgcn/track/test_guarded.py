"""A tracker that fails is one line: before the run where that can be known, else the run goes on."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent
from bnsgcn.track.choice import NAMED, check_installed
from bnsgcn.track.guarded import Guarded
from partition.errors import UserError
from tests.bnsgcn.small_graphs import PartsFolder
from tests.bnsgcn.track.tracked import CONFIG, fitted


class Failing(Silent):
    """Fails at one of its calls, and keeps count of all."""

    def __init__(self, at: str, error: Exception) -> None:
        self.at, self.error, self.calls = at, error, 0

    def on_start(self, facts: dict[str, Any]) -> None:
        self._call("start")

    def on_epoch(self, metrics: dict[str, float]) -> None:
        self._call(f"epoch {metrics['epoch']}")

    def on_end(self, summary: dict[str, Any]) -> None:
        self._call("end")

    def _call(self, name: str) -> None:
        self.calls += 1
        if name == self.at:
            raise self.error


@pytest.mark.parametrize(
    ("at", "when", "calls"), [("epoch 3", "in epoch 4", 5), ("end", "at the end", 14)], ids=str
)
def test_the_run_goes_on_without_it(
    at: str,
    when: str,
    calls: int,
    parts_folder: PartsFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing = Failing(at, ZeroDivisionError("division\nby zero"))
    summary = fitted(parts_folder("single", 1), tmp_path, CONFIG, failing)
    assert summary["epochs"] == 12
    assert failing.calls == calls, "it is told nothing more"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(
        f"bnsgcn: warning: --track Failing failed {when} (ZeroDivisionError: division by zero; its traceback"
    )
    assert "division" in (tmp_path / "errors" / "track_Failing.txt").read_text()


def test_what_fails_at_the_start_is_a_mistake(parts_folder: PartsFolder, tmp_path: Path) -> None:
    failing = Failing("start", OSError(28, "No space left on device"))
    with pytest.raises(UserError, match=r"--track Failing cannot start \(.*No space left.*leave it out"):
        fitted(parts_folder("single", 1), tmp_path, CONFIG, failing)
    assert not RunFolder(tmp_path).metrics()


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_full_disk_ends_the_tracker_alone(
    name: str, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    tracker = Guarded(name, NAMED[name](small_disk), small_disk)
    tracker.on_start({"config": CONFIG.to_json()})
    (small_disk / "filler").write_bytes(bytes(free_bytes(small_disk) - 16384))
    for epoch in range(300):
        tracker.on_epoch({"epoch": epoch} | {f"time/{number}_s": 1 / 3 for number in range(20)})
    tracker.on_end({})
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert f"--track {name} failed in epoch" in said
    assert "No space left on device" in said


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def test_what_is_not_installed_is_said_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    check_installed(dataclasses.replace(CONFIG, track="csv"))
    for name in ("tensorboard", "mlflow", "wandb"):
        with pytest.raises(UserError, match=rf"needs {name}, which is not installed; pip install 'bnsgcn\["):
            check_installed(dataclasses.replace(CONFIG, track=f"csv,{name}"))


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("tensorbord", "--track has no choice 'tensorbord'; did you mean 'tensorboard'"),
        ("csv,csv", "--track csv,csv names a tracker twice"),
        ("csv,", "--track has no choice ''"),
    ],
)
def test_names_that_there_are_not_are_one_line(track: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, track=track)
    assert dataclasses.replace(CONFIG, track="tensorboard, csv").tracked == ("tensorboard", "csv")
