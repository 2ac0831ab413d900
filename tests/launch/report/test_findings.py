"""What is remarked on a run, each with the run beside it on which it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bnsgcn.record.recorded import read_run
from launch.report.findings import Finding, findings, seen_again
from partition.quality import Quality, inspect_parts
from tests.launch.report.made_runs import MadeParts, made_run


def said(path: Path, quality: Quality | None = None) -> str:
    return "\n".join(f"{each.says} Try: {each.advice}" for each in findings(read_run(path), quality))


def test_nothing_is_said_of_a_sound_run(tmp_path: Path) -> None:
    assert said(made_run(tmp_path / "run", pipeline=True, patience=3)) == ""
    assert said(made_run(tmp_path / "none", done=0)) == ""


def test_waiting_for_rows(tmp_path: Path) -> None:
    text = said(made_run(tmp_path / "run", patience=3))
    assert text.startswith("Halo wait is 12 % of the epoch, 6.0 ms on the slowest rank.")
    assert "--pipeline" in text
    # What auto chooses cannot be given beside it.
    assert "Try: a larger --tolerance" in said(made_run(tmp_path / "auto", patience=3, policy="auto"))
    assert "Try: --aim time" in said(made_run(tmp_path / "bytes", patience=3, policy="auto", aim="bytes"))


def test_a_rank_that_the_others_wait_for(tmp_path: Path, two_parts: Path) -> None:
    quality = inspect_parts(two_parts)
    run = made_run(tmp_path / "run", slow_rank=1, patience=3)
    assert (
        "Rank 0 waits 55 % of its epoch for rank 1, which computes 1.33 times as long as the mean."
        in said(run)
    )
    assert "its part has no more arcs than others" in said(run, quality)
    parts = list(quality.per_part)
    object.__setattr__(parts[1], "arcs", 2 * parts[0].arcs)
    assert "rank 1, which computes 1.33 times as long as the mean: its part has 1.33 times the arcs." in said(
        run, quality
    )


def rising(epoch: int, line: dict[str, Any]) -> None:
    if "val_score" in line:
        line["val_score"] = 0.5 + epoch / 100


def peaked(epoch: int, line: dict[str, Any]) -> None:
    if "val_score" in line:
        line["val_score"] = 0.9 - abs(epoch - 9) / 1000
    line["loss"] += epoch / 10


def growing(epoch: int, line: dict[str, Any]) -> None:
    line["memory/peak_rss_bytes"] = 470_000_000 if epoch < 60 else 520_000_000
    line["time/epoch_s"] *= 4 if epoch % 10 == 0 else 1


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (rising, {"eval_every": 2}, ["still rising at the last epoch: 0.8900", "--epochs 80 --resume"]),
        (peaked, {"eval_every": 2}, ["The best epoch, 10, came long before the end, 40: 75 %", "--patience"]),
        (peaked, {"eval_every": 2}, ["The loss rose again", "a lower --lr (now 0.01)"]),
        (growing, {"epochs": 80}, ["Memory still grew", "2.6 times the 200.0 MB", "4.0 times the median"]),
    ],
)
def test_how_it_went(tmp_path: Path, change: Any, options: dict[str, Any], expected: list[str]) -> None:
    text = said(made_run(tmp_path / "run", pipeline=True, change=change, **options))
    for words in expected:
        assert words in text


def test_errors_of_sampling_and_a_failed_rank(tmp_path: Path) -> None:
    sampled = {
        "sampling_rate": 0.1,
        "sampler": "uniform",
        "telemetry_every": 1,
        "pipeline": True,
        "patience": 3,
    }
    assert "Sampled sums are off by 72 % of their size. Try: --sampler importance" in said(
        made_run(tmp_path / "a", **sampled)
    )
    assert "higher --sampling-rate" in said(made_run(tmp_path / "b", **sampled | {"sampler": "importance"}))
    stopped = made_run(tmp_path / "c", done=10, ended=False)
    (stopped / "errors").mkdir()
    (stopped / "errors" / "rank_1.txt").write_text("Traceback\nRuntimeError: \x1b[2Jboom\n")
    text = said(stopped)
    assert "Rank 1 failed after epoch 10: RuntimeError: \\x1b[2Jboom." in text
    assert "The run stopped after epoch 10 of 40. Try: the same command with --resume goes on" in text


def test_one_worker_waits_for_nobody(tmp_path: Path) -> None:
    assert "Halo" not in said(made_run(tmp_path / "run", of=MadeParts(parts=1)))


def test_the_same_remark_on_many_runs_is_made_once() -> None:
    found = [Finding(f"wait {run}", "--pipeline", f"run {run}") for run in range(5)] + [
        Finding("odd", "", "run 3")
    ]
    told = seen_again(found, 5)
    assert [(each.says, each.about) for each in told] == [
        ("wait 0", "all 5 runs, such as run 0"),
        ("odd", "run 3"),
    ]
    assert seen_again(found[:2], 5)[0].about == "run 0 and 1 more"
