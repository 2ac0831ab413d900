"""Trackers from Python: by name, an object of the caller's, a function that makes one in a worker."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

import bnsgcn
from bnsgcn.api.following import following
from partition.errors import UserError
from tests.bnsgcn.api.small import QUICK, small_graph
from tests.bnsgcn.api.trackers import Counting, in_a_file


@pytest.mark.multi
def test_all_three_kinds_see_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counting = Counting()
    options = QUICK | {"cache_dir": tmp_path / "cache", "track": ["csv", counting, in_a_file]}
    run = bnsgcn.train(small_graph(), run_dir=tmp_path / "run", **options)
    assert counting.process == os.getpid(), "an object lives where it was made"
    assert counting.facts["config"]["hidden"] == 8
    assert counting.facts["run_dir"] == str(tmp_path / "run")
    losses = run.history["loss"].tolist()
    assert [line["loss"] for line in counting.epochs] == losses
    assert counting.summary == run.summary
    where, *lines = (tmp_path / "run" / "seen.txt").read_text().splitlines()
    assert int(where) != os.getpid(), "what a function makes lives in the worker of rank 0"
    assert [float(line) for line in lines] == losses
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 7
    assert capsys.readouterr() == ("", "")


@pytest.mark.multi
def test_an_object_that_fails_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counting = Counting(fails_at=2)
    options = QUICK | {"cache_dir": tmp_path / "cache", "track": counting}
    run = bnsgcn.train(small_graph(), run_dir=tmp_path / "run", **options)
    assert math.isfinite(run.test_score)
    assert len(counting.epochs) == 3
    assert capsys.readouterr().err.startswith("bnsgcn: warning: --track Counting failed in epoch 3 (")


MISTAKES: list[tuple[Any, str]] = [
    ("tensorbord", "--track has no choice 'tensorbord'; did you mean 'tensorboard'"),
    (["csv", "csv"], "--track csv,csv names a tracker twice"),
    (3, "track is 3, must be a name, a bnsgcn.Tracker, or a function that makes one"),
    (lambda run_dir, config: None, "track is a lambda, which no worker can import"),
]


@pytest.mark.parametrize(("track", "message"), MISTAKES, ids=[message[:30] for _, message in MISTAKES])
def test_mistakes_are_one_line(track: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        bnsgcn.train(small_graph(), track=track, run_dir=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_kinds_are_told_apart() -> None:
    counting = Counting()
    found = following(["csv", "tensorboard,mlflow", counting, Counting, in_a_file])
    assert found.names == "csv,tensorboard,mlflow"
    assert found.told == [counting]
    assert [each["name"] for each in found.makers] == ["Counting", "in_a_file"]
    assert following(None).names is None
    assert bnsgcn.Listener is bnsgcn.Tracker, "the name before"
