"""MLflow: options as parameters, the lines of metrics.jsonl as metrics, final scores beside them.

Where MLFLOW_TRACKING_URI says, else in RUN/mlruns, files that `mlflow ui` shows; the
experiment is MLFLOW_EXPERIMENT_NAME, else named after the graph. RUN/mlflow.json says which run it is. What
a store has of an epoch stays: metrics cannot be taken back, so those that are there are not added again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import read_object, write_object
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent
from partition.errors import UserError
from partition.optional import optional

FINAL = ("val_score", "test_score", "best_epoch", "epoch_s_median", "peak_rss_bytes")


class MlflowStore(Silent):
    """One MLflow run for the run in the folder."""

    def __init__(self, run_dir: Path) -> None:
        self._run, self._run_dir, self._note = RunFolder(run_dir), run_dir, run_dir / "mlflow.json"
        self._client: Any = None
        self._id = ""
        self._known: dict[str, set[int]] = defaultdict(set)

    def on_start(self, facts: dict[str, Any]) -> None:
        """Find the run or create it, and add what it lacks of the epochs before."""
        mlflow = optional("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (self._run_dir / "mlruns").resolve().as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # or files are refused
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        with contextlib.suppress(OSError, UserError):
            self._id = str(read_object(self._note).get("run_id", ""))
        found = self._found() or self._created(facts, uri)
        for name, value in facts["config"].items():
            if name not in found.data.params:
                self._client.log_param(self._id, name, value)
        self._client.log_text(self._id, json.dumps(facts["config"], indent=1), "config.json")
        for name in found.data.metrics:
            self._known[name] = {each.step for each in self._client.get_metric_history(self._id, name)}
        for line in self._run.metrics():
            self.on_epoch(line)

    def on_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Add what the epoch measured, as far as it is not there."""
        self._add({name: value for name, value in metrics.items() if name != "epoch"}, metrics["epoch"])

    def on_end(self, summary: dict[str, Any]) -> None:
        """Add the final scores, and close the run."""
        self._add({f"final/{name}": summary[name] for name in FINAL}, summary["epochs"])
        self._client.set_terminated(self._id)

    def _found(self) -> Any:
        """The run that was begun before; None where this store does not have it."""
        if not self._id:
            return None
        try:
            found = self._client.get_run(self._id)
        except optional("mlflow.exceptions").MlflowException:
            return None
        self._client.update_run(self._id, status="RUNNING")
        return found

    def _created(self, facts: Mapping[str, Any], uri: str) -> Any:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or str(facts["name"])
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run_name = self._run_dir.resolve().name
        created = self._client.create_run(number, run_name=run_name, tags={"run_dir": str(self._run_dir)})
        self._id = created.info.run_id
        write_object(self._note, {"tracking_uri": uri, "run_id": self._id})
        return created

    def _add(self, values: Mapping[str, Any], epoch: int) -> None:
        metric, now_ms = optional("mlflow.entities").Metric, int(time.time() * 1000)
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        fresh = [name for name in numbers if epoch not in self._known[name]]
        entries = [metric(name, float(numbers[name]), now_ms, epoch) for name in fresh]
        self._client.log_batch(self._id, metrics=entries)
