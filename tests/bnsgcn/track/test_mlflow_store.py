"""MLflow's file store, read back by MLflow. In the environment of the tests it need not be installed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bnsgcn.small_graphs import PartsFolder
from tests.bnsgcn.track.tracked import CONFIG, curves, fitted, killed_and_resumed

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:mlflow")

MLFLOW = dataclasses.replace(CONFIG, track="mlflow")


@pytest.fixture(autouse=True)
def _no_store_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)


def found_in(run_dir: Path) -> tuple[Any, Any]:
    """The client and the one run of the store."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=(run_dir / "mlruns").as_uri())
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return client, run


def test_killed_and_resumed_the_curves_are_those_of_the_lines(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = killed_and_resumed(parts_folder("single", 1), tmp_path, MLFLOW, monkeypatch)
    client, run = found_in(tmp_path)
    for name, points in curves(tmp_path).items():
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted(each.step for each in history) == [epoch for epoch, _ in points], name
    losses = {each.step: each.value for each in client.get_metric_history(run.info.run_id, "loss")}
    assert sorted(losses.items()) == curves(tmp_path)["loss"]
    assert run.info.status == "FINISHED"
    assert run.data.params["hidden"] == "8"
    assert run.data.metrics["final/test_score"] == summary["test_score"]
    text = next((tmp_path / "mlruns").glob("*/*/artifacts/config.json")).read_text()
    assert json.loads(text)["hidden"] == 8


def test_more_epochs_go_on_in_the_same_run(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 1)
    fitted(folder, tmp_path, MLFLOW)
    fitted(folder, tmp_path, dataclasses.replace(MLFLOW, resume=True, epochs=14))
    client, run = found_in(tmp_path)
    steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss")]
    assert sorted(steps) == list(range(14))
    assert run.info.status == "FINISHED"
