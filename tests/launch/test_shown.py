"""--quiet and --json of train: what people and machines get, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.record.run_folder import RunFolder
from tests.launch.scene import Command, Ended

QUICK = ("--layers", "2", "--hidden", "8", "--epochs", "4", "--eval-every", "2")


def events(ended: Ended) -> list[dict[str, Any]]:
    assert ended.status == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.mark.multi
def test_json_is_all_that_standard_output_gets(command: Command, two_parts: Path, tmp_path: Path) -> None:
    """Also of a SOURCE, whose cutting is told about elsewhere, and of a tracker that nothing is said of."""
    source = f"npz:{two_parts.with_suffix('.npz')}"
    cached = ("--cache-dir", tmp_path / "cache", "--parts", "2")
    ended = command(
        "train", source, *cached, "--run-dir", tmp_path / "run", *QUICK, "--json", "--track", "csv"
    )
    start, *epochs, end = events(ended)
    assert start["event"] == "start"
    assert start["config"]["hidden"] == 8
    assert start["run_dir"] == str(tmp_path / "run")
    assert [each.pop("event") for each in epochs] == ["epoch"] * 4
    assert epochs == RunFolder(tmp_path / "run").metrics()
    assert end.pop("event") == "end"
    assert end == RunFolder(tmp_path / "run").summary()
    assert "starting 2 workers" in ended.err
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 5


@pytest.mark.multi
def test_a_quiet_run_says_its_score_and_nothing_else(
    command: Command, two_parts: Path, tmp_path: Path
) -> None:
    ended = command("train", two_parts, "--run-dir", tmp_path / "run", *QUICK, "--quiet")
    summary = RunFolder(tmp_path / "run").summary()
    assert summary is not None
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"test accuracy {summary['test_score']:.4f}   (validation ")
    assert ended.out.count("\n") == 1
    again = command(
        "train", two_parts, "--run-dir", tmp_path / "run", *QUICK, "--quiet", "--json", "--resume"
    )
    (end,) = events(again)
    assert end == {"event": "end"} | summary
    assert again.err == ""
    assert (
        "holds a run already"
        in command("train", two_parts, "--run-dir", tmp_path / "run", "--quiet").mistake()
    )


@pytest.mark.multi
def test_seeds_end_with_what_they_say_together(command: Command, two_parts: Path, tmp_path: Path) -> None:
    seeds = ("train", two_parts, "--run-dir", tmp_path / "run", *QUICK, "--seeds", "0,1")
    found = events(command(*seeds, "--json"))
    assert [each["event"] for each in found] == [*["start", *["epoch"] * 4, "end"] * 2, "seeds"]
    assert found[-1]["seeds"] == [0, 1]
    quiet = command(*seeds, "--quiet", "--resume")
    assert quiet.out.startswith("Test accuracy")
    assert quiet.out.count("\n") == 1
    assert quiet.err == ""


def test_what_cannot_be_tracked_or_profiled_is_said_before_anything_begins(
    command: Command, two_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("train", two_parts, "--run-dir", tmp_path / "run")
    assert "did you mean 'tensorboard'" in command(*run, "--track", "tensorbord").mistake()
    assert "is not within --epochs 200" in command(*run, "--profile", "200-201").mistake()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    ended = command(*run, "--track", "wandb").mistake()
    assert ended == "--track wandb needs wandb, which is not installed; pip install 'bnsgcn[wandb]'"
    assert not (tmp_path / "run").exists()


@pytest.mark.multi
@pytest.mark.parametrize("how", [(), ("--json",)], ids=str)
def test_a_reader_that_leaves_is_said_as_it_is(
    how: tuple[str, ...], command: Command, two_parts: Path, tmp_path: Path
) -> None:
    endless = ("--layers", "1", "--epochs", "1000000", "--eval-every", "1")
    process = command.start("train", two_parts, "--run-dir", tmp_path / "run", *endless, *how)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    said = [line for line in err.splitlines() if line.startswith("bnsgcn: error: rank 0 failed: [Errno 32]")]
    assert len(said) == 1, err
    command.wait_for_no_worker()
