"""What follows a run: its face or what stands for it, the trackers of --track, those of the caller's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bnsgcn.config import TrainConfig
from bnsgcn.own import Reference, resolve
from bnsgcn.record.tracker import Several, Silent, Tracker
from bnsgcn.show.events import JsonEnd, JsonEvents, ScoreLine
from bnsgcn.show.face import face
from bnsgcn.track.csv_file import CsvFile
from bnsgcn.track.guarded import Guarded
from bnsgcn.track.mlflow_store import MlflowStore
from bnsgcn.track.tensorboard_events import TensorBoardEvents
from bnsgcn.track.wandb_offline import WandbOffline
from partition.errors import UserError
from partition.optional import INSTALL

Shown = Literal["face", "score", "events", "end", "nothing"]
"""How a run shows itself: to people, by the last line alone; to machines, by the last event alone; not."""

NAMED: dict[str, type[Any]] = {
    "csv": CsvFile,
    "tensorboard": TensorBoardEvents,
    "mlflow": MlflowStore,
    "wandb": WandbOffline,
}


def shown_as(*, quiet: bool, json: bool) -> Shown:
    """What --quiet and --json ask for."""
    if json:
        return "end" if quiet else "events"
    return "score" if quiet else "face"


def check_installed(config: TrainConfig) -> None:
    """UserError where a tracker needs a package that is not here."""
    for name in config.tracked:
        if name in INSTALL and importlib.util.find_spec(name) is None:
            raise UserError(f"--track {name} needs {name}, which is not installed; {INSTALL[name]}")


def followers(run_dir: Path, config: TrainConfig, shown: Shown, own: Sequence[Tracker] = ()) -> Tracker:
    """All that follows a run, the face last; nothing of it is begun before the run is."""
    check_installed(config)
    named = [Guarded(name, NAMED[name](run_dir), run_dir) for name in config.tracked]
    guarded = [Guarded(name_of(tracker), tracker, run_dir) for tracker in own]
    return Several(*named, *guarded, _showing(shown, run_dir))


def name_of(tracker: Tracker) -> str:
    """What messages call a tracker of the user's own."""
    return tracker.name if isinstance(tracker, Made) else type(tracker).__name__


def _showing(shown: Shown, run_dir: Path) -> Tracker:
    if shown == "face":
        return face(run_dir)
    kinds: dict[str, type[Silent]] = {"score": ScoreLine, "events": JsonEvents, "end": JsonEnd}
    return kinds.get(shown, Silent)()


class Made(Silent):
    """A tracker that a function of the user's own makes, (run_dir, config) -> tracker, on rank 0 alone."""

    def __init__(self, reference: Mapping[str, Any], run_dir: Path, config: TrainConfig) -> None:
        self._reference, self._run_dir, self._config = Reference(**reference), run_dir, config
        self._tracker: Tracker = Silent()

    @property
    def name(self) -> str:
        """The function's."""
        return self._reference.name

    def on_start(self, facts: dict[str, Any]) -> None:
        """Make the tracker, and tell it."""
        self._tracker = resolve("track", self._reference)(self._run_dir, self._config)
        self._tracker.on_start(facts)

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Tell the tracker."""
        self._tracker.on_epoch(metrics)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Tell the tracker."""
        self._tracker.on_end(summary)
