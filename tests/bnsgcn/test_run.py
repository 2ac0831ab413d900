"""What one worker process checks before it trains: its threads, and that the model can be there at all."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from bnsgcn import capacity
from bnsgcn.config import TrainConfig
from bnsgcn.kernels import Kernels
from bnsgcn.own import reference_to
from bnsgcn.run import evaluate_run, train_worker
from partition.errors import UserError
from tests.bnsgcn.api.small import doubled_loss
from tests.bnsgcn.small_graphs import PartsFolder

SMALL = {"layers": 2, "hidden": 8, "epochs": 2, "device": "cpu"}


def test_threads_are_bounded_by_the_cores(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line instead of a machine without threads; on a smaller machine than before a run is evaluated."""
    monkeypatch.setattr(capacity, "core_count", lambda: 3)
    folder, run_dir = parts_folder("single", 1), tmp_path / "run"
    expected = "--threads is 100000, this machine has 3 cores; use at most 12, or leave it out"
    with pytest.raises(UserError, match=expected):
        train_worker(folder, run_dir, TrainConfig(**SMALL, threads=100_000))
    assert not run_dir.exists()
    train_worker(folder, run_dir, TrainConfig(**SMALL, threads=1))
    config = json.loads((run_dir / "config.json").read_text())
    config["config"]["threads"] = 64
    (run_dir / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(capacity, "core_count", lambda: 1)
    evaluate_run(run_dir)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 10**18},
        {"hidden": 10**12},
        {"model": "gat", "heads": 10**15, "hidden": 10**15},
        {"layers": 10**6, "hidden": 10**6},
    ],
    ids=str,
)
def test_a_model_beyond_reason_is_one_line_at_once(
    options: dict[str, int], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    begin = time.process_time()
    with pytest.raises(UserError, match=r"need at least [\d,]+ GB a worker, this machine has [\d,]+ GB"):
        train_worker(parts_folder("single", 1), tmp_path / "run", TrainConfig(**SMALL | options))
    assert time.process_time() - begin < 10
    assert not (tmp_path / "run").exists()


def test_kernels_that_do_not_work_here_leave_no_run_behind(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the command with the mistake put right would say that the folder holds a run already."""

    backends = sys.modules["bnsgcn.kernels.select"]._ALL

    def absent(_: object) -> Kernels:
        raise UserError("DGL is not installed; use --kernel auto")

    monkeypatch.setitem(backends, "dgl", absent)
    with pytest.raises(UserError, match="DGL is not installed"):
        train_worker(parts_folder("single", 1), tmp_path / "run", TrainConfig(**SMALL, kernel="dgl"))
    assert not (tmp_path / "run").exists()


def test_an_option_and_a_loss_of_ones_own_leave_no_run_behind(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    own = {"loss": reference_to("loss", doubled_loss).to_json()}
    config = TrainConfig(**SMALL, class_weights="balanced")
    with pytest.raises(UserError, match="--class-weights balanced and the loss of your own: leave one out"):
        train_worker(parts_folder("single", 1), tmp_path / "run", config, own=own)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"modle": "gcn"}, "unknown option 'modle'.*did you mean 'model'"),
        ({"model": "sagee"}, "--model has no choice 'sagee'; did you mean 'sage'"),
        ({"layers": 2.0}, r"--layers is 2\.0, must be a whole number"),
        ({"lr": float("inf")}, "--lr is inf, must be finite"),
    ],
    ids=str,
)
def test_a_run_whose_options_were_spoiled_is_one_line(
    changed: dict[str, object], message: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    facts = {"config": SMALL | changed, "parts_dir": str(parts_folder("single", 1)), "name": "single"}
    (tmp_path / "config.json").write_text(json.dumps(facts | {"parts": 1, "digest": "a", "launch": ""}))
    with pytest.raises(UserError, match=message) as failure:
        evaluate_run(tmp_path)
    assert "\n" not in str(failure.value)
