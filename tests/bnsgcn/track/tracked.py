"""Runs that are tracked, in this process: from the start, resumed, and killed in between."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Tracker
from bnsgcn.track.choice import followers
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.trainer import Trainer
from partition.store import open_part

CONFIG = TrainConfig(layers=2, hidden=8, dropout=0.2, epochs=12, eval_every=4)


class Killed(BaseException):
    """Stands for a signal that nobody sees coming."""


def fitted(folder: Path, run_dir: Path, config: TrainConfig, *own: Tracker) -> dict[str, Any]:
    """The run as a worker makes it, alone."""
    part, run, world = open_part(folder, 0), RunFolder(run_dir), World.single()
    run.create(config, part.manifest, folder)
    return Trainer(
        world,
        part,
        build_model(part.manifest, config),
        config,
        run=run,
        checkpoints=Checkpoints(run_dir, world),
        listener=followers(run_dir, config, "nothing", own),
    ).fit()


def killed_and_resumed(
    folder: Path,
    run_dir: Path,
    config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[], object] = dict,
) -> dict[str, Any]:
    """The summary of a run that was killed before it sealed epoch 8, and again after it has.

    `forget`: lets go of what a library keeps in this process, which would be gone with a real one.
    """
    real = Checkpoints.save

    for when in ("before", "after"):

        def dying(self: Checkpoints, epoch: int, *args: Any, when: str = when, **options: Any) -> Path:
            if epoch == 8 and when == "before":
                raise Killed
            path = real(self, epoch, *args, **options)
            if epoch == 8:
                raise Killed
            return path

        monkeypatch.setattr(Checkpoints, "save", dying)
        resumed = dataclasses.replace(config, resume=when == "after")
        with pytest.raises(Killed):
            fitted(folder, run_dir, resumed)
        forget()
    monkeypatch.undo()
    return fitted(folder, run_dir, dataclasses.replace(config, resume=True))


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """What metrics.jsonl says: (epoch, value) of every name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in RunFolder(run_dir).metrics():
        for name, value in line.items():
            if name != "epoch":
                found.setdefault(name, []).append((line["epoch"], math.nan if value is None else value))
    return found
