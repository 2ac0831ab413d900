"""RUN/wandb: an offline run of Weights & Biases, which `wandb sync RUN/wandb/offline-run-*` sends.

Nothing goes over the network from here. A run that goes on is written anew under the same id, so that there
is one, whole. WANDB_PROJECT names the project.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent
from partition.optional import optional

FINAL = ("val_score", "test_score", "best_epoch", "epoch_s_median", "peak_rss_bytes")


class WandbOffline(Silent):
    """One offline run for the run in the folder."""

    def __init__(self, run_dir: Path) -> None:
        self._run, self._run_dir = RunFolder(run_dir), run_dir
        self._wandb: Any = None
        self._logged: Any = None

    def on_start(self, facts: dict[str, Any]) -> None:
        """Begin the run, with the epochs before."""
        self._wandb = optional("wandb")
        before = sorted((self._run_dir / "wandb").glob("offline-run-*"))
        known = before[0].name.rpartition("-")[2] if before else os.urandom(4).hex()
        shutil.rmtree(self._run_dir / "wandb", ignore_errors=True)
        settings = {"silent": True, "console": "off", "disable_git": True, "x_disable_stats": True}
        self._logged = self._wandb.init(
            mode="offline",
            dir=str(self._run_dir),
            id=known,
            name=self._run_dir.resolve().name,
            project=os.environ.get("WANDB_PROJECT") or "bnsgcn",
            config=facts["config"],
            settings=self._wandb.Settings(**settings),
        )
        for line in self._run.metrics():
            self.on_epoch(line)

    def on_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Add what the epoch measured."""
        values = {name: value for name, value in metrics.items() if name != "epoch" and value is not None}
        self._logged.log(values, step=metrics["epoch"], commit=True)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Add the final scores, and end the run with the process that writes it."""
        self._logged.summary.update({f"final/{name}": summary[name] for name in FINAL})
        self._logged.finish()
        self._wandb.teardown()
