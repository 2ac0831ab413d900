"""A run read back: whole, while it runs, stopped, damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bnsgcn.api.session import open_run
from bnsgcn.record.recorded import read_run
from bnsgcn.record.run_folder import RunFolder
from partition.errors import UserError
from tests.launch.report.made_runs import made_run


def test_a_run_that_has_ended(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run", epochs=20))
    assert (run.state, run.epochs, run.gaps, len(run.ranks)) == ("ended", 20, (), 2)
    assert run.figure("parameters") == 19_300
    assert run.facts.versions["python"]
    assert run.of("loss").shape == (20,)
    assert math.isnan(run.of("never/recorded")[3])
    history = open_run(tmp_path / "run").history
    assert all((history[name] == run.history[name]).all() for name in ("epoch", "loss"))


def test_a_run_that_is_not_over(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", epochs=100, done=30, ended=False)
    run = read_run(path)
    assert (run.state, run.epochs) == ("stopped", 30)
    assert run.figure("best_epoch") in (9, 19, 29)
    assert run.figure("epoch_s_median") == pytest.approx(0.049, abs=0.002)
    writer = RunFolder(path)
    writer.claim()
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 30, "lo')  # being written
    running = read_run(path)
    writer.release()
    assert (running.state, running.epochs, running.gaps) == ("running", 30, ())
    assert read_run(path).gaps == ("1 line of metrics.jsonl cannot be read and are left out",)


def test_a_summary_of_fewer_epochs_does_not_count(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", epochs=20)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 20, "loss": 0.1}) + "\n")
    run = read_run(path)
    assert (run.state, run.figure("epochs"), run.figure("final_loss")) == ("stopped", 21, 0.1)
    assert "parameters" not in run.figures


def test_damage_is_said_and_left_out(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", epochs=10)
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[3] = lines[3][:20] + "\n"
    lines[4] = '{"epoch": 4, "loss": "much", "time/epoch_s": 1e999, "comm/sent_bytes": [1]}\n'
    lines[5] = '{"epoch": 1' + "0" * 400 + ', "loss": 1}\n'
    (path / "metrics.jsonl").write_text("".join(lines))
    (path / "rank_1.jsonl").unlink()
    (path / "summary.json").write_text("{")
    run = read_run(path)
    assert math.isnan(run.of("loss")[3])
    assert run.gaps == (
        "2 lines of metrics.jsonl cannot be read and are left out",
        "2 of 10 epochs have no line; times and bytes in sum are too low by them",
        "1 of 2 ranks have no lines (rank_K.jsonl)",
        "summary.json cannot be read; the figures are those of the epochs",
    )


def test_no_epoch_and_no_run(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run", done=0))
    assert (run.epochs, run.history, run.figures) == (0, {}, {})
    assert run.gaps == ("no epoch has ended yet, so there is nothing to draw",)
    with pytest.raises(UserError, match="is no run folder"):
        read_run(tmp_path)
