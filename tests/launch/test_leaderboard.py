"""`train --seeds`: one run after the other, resumable, and what they say together."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from bnsgcn.record.run_folder import RunFolder
from tests.launch.scene import Command, shared_state, write_parts

GIVEN = ("--layers", "2", "--hidden", "8", "--epochs", "4", "--eval-every", "2")


def seeds_json(run_dir: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run_dir / "seeds.json").read_text())
    return found


@pytest.mark.multi
def test_seeds_are_run_one_after_the_other_and_go_on(command: Command, tmp_path: Path) -> None:
    parts, run_dir = write_parts(tmp_path / "parts", 1), tmp_path / "runs"
    given = ("train", parts, "--run-dir", run_dir, *GIVEN, "--seeds", "0,2-3")
    ended = command(*given)
    assert (ended.status, ended.err) == (0, ""), ended
    found = seeds_json(run_dir)
    summaries = [RunFolder(run_dir / f"seed_{seed}").summary() for seed in (0, 2, 3)]
    tests = [summary["test_score"] for summary in summaries if summary]
    assert found["test_score_mean"] == pytest.approx(statistics.mean(tests))
    assert found["test_score_std"] == pytest.approx(statistics.stdev(tests))
    assert [summary["config"]["seed"] for summary in summaries if summary] == [0, 2, 3]
    assert f"Test accuracy        {statistics.mean(tests):.4f} ± " in ended.out
    assert "#Params              203\n" in ended.out
    assert found["parameters"] == 203
    assert f"Hardware             {found['hardware']}\n" in ended.out
    assert "seed 2 (2 of 3)" in ended.out

    expected = f"--run-dir {run_dir}/seed_0 holds a run already; add --resume or name a new folder"
    assert command(*given).mistake() == expected

    weights = shared_state(run_dir / "seed_3")["model"]
    (run_dir / "seed_2" / "summary.json").unlink()
    (run_dir / "seed_3").rename(tmp_path / "elsewhere")
    (run_dir / "seeds.json").unlink()
    again = command(*given, "--resume")
    assert again.status == 0
    assert again.out.count("starting 1 worker\n") == 2, "what has ended is not trained again"
    assert f"{run_dir}/seed_0 has ended" in again.out
    assert "going on at epoch 4" in again.out
    assert "no checkpoint yet" not in again.err
    scores = ("test_score_mean", "test_score_std", "val_score_mean", "parameters", "seeds")
    assert {key: seeds_json(run_dir)[key] for key in scores} == {key: found[key] for key in scores}
    for name, value in shared_state(run_dir / "seed_3")["model"].items():
        assert value.equal(weights[name])

    longer = command(*given, "--resume", "--epochs", "5")
    assert longer.out.count("going on at epoch 4") == 3
    other = command(*given, "--resume", "--lr", "0.5")
    assert "--lr is 0.5, the run in" in other.mistake()


def test_mistakes_of_seeds_are_one_line(command: Command, two_parts: Path, tmp_path: Path) -> None:
    given = ("train", two_parts, "--run-dir", tmp_path / "runs")
    assert command(*given, "--seeds", "9-0").mistake() == (
        "--seeds is '9-0': 9-0 ends before it begins; write 0-9"
    )
    assert command(*given, "--seeds", "0-9", "--seed", "3").mistake() == (
        "--seed 3 and --seeds 0...: give one of the two"
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "config.json").write_text("{}")
    assert "holds a run itself; name another folder" in command(*given, "--seeds", "0").mistake()


def test_under_torchrun_it_is_said_how(
    command: Command, two_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    process = command.start("train", two_parts, "--run-dir", tmp_path / "runs", "--seeds", "0-2")
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert f"start torchrun for each, with --seed K --run-dir {tmp_path}/runs/seed_K; then" in err
