"""Keeps what outlives an epoch: the whole loop as checkpoints, or without them the best weights in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bnsgcn.auto.controller import Controller
from bnsgcn.exchange.lane import Lane
from bnsgcn.train.average import WeightAverage
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.optimizer import Optimizer
from bnsgcn.train.progress import Progress
from bnsgcn.train.seal import Best


class Keeper:
    """Saves and loads weights, optimiser, progress and this rank's lanes; nothing may be in flight.

    Args:
        checkpoints: where they go; None = only the best weights are kept, in memory.
        average: where there is one, it is what a checkpoint has as the model, for all who evaluate, predict
            and export; the weights that are trained are beside it.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        *,
        model: torch.nn.Module,
        optimizer: Optimizer,
        progress: Progress,
        lanes: Sequence[Lane],
        average: WeightAverage | None = None,
        controller: Controller | None = None,
    ) -> None:
        self._checkpoints, self._model, self._optimizer = checkpoints, model, optimizer
        self._progress, self._lanes, self._average = progress, lanes, average
        self._controller = controller
        self._best_weights: dict[str, Tensor] | None = None

    def save(self) -> None:
        """Write a checkpoint; without checkpoints, remember the weights if they are the best. Collective."""
        with contextlib.nullcontext() if self._average is None else self._average.in_place():
            self._save()

    def _save(self) -> None:
        weights, progress = self._model.state_dict(), self._progress
        best = (
            Best(epoch=progress.best_epoch + 1, score=progress.best_val) if progress.best_epoch >= 0 else None
        )
        if self._checkpoints is None:
            if best is not None and best.epoch == progress.epoch:
                self._best_weights = {name: value.clone() for name, value in weights.items()}
            return
        shared: dict[str, Any] = {
            "model": weights,
            "optimizer": self._optimizer.state_dict(),
            "progress": dataclasses.asdict(progress),
        }
        if self._average is not None:
            shared["trained"] = self._average.others
        if self._controller is not None:
            shared["auto"] = self._controller.state()
        own = {"lanes": [lane.state() for lane in self._lanes]}
        self._checkpoints.save(progress.epoch, shared, own, best=best)

    def holds_any(self) -> bool:
        """Whether there is a checkpoint to go on from, be it damaged. Collective."""
        return self._checkpoints is not None and self._checkpoints.found()

    def load(self, which: str) -> None:
        """Take over a checkpoint: "latest", "best" or a path. Collective.

        Of another cut of the graph, all but the lanes: they begin anew with the next epoch.
        """
        assert self._checkpoints is not None, "there are no checkpoints to load"
        shared, own = self._checkpoints.load(which)
        self._model.load_state_dict(shared["model"])
        if self._average is not None:
            self._average.load(shared["trained"])
        self._optimizer.load_state_dict(shared["optimizer"])
        self._progress.take_over(shared["progress"])
        if own is None:
            for lane in self._lanes:
                lane.begin(self._progress.epoch)
            return
        if self._controller is not None:
            self._controller.load(shared["auto"])
        for lane, state in zip(self._lanes, own["lanes"], strict=True):
            lane.load(_moved(state, next(self._model.parameters()).device))

    def load_best(self) -> None:
        """Take over the weights of the best validation score so far. Collective."""
        if self._checkpoints is not None:
            self._model.load_state_dict(self._checkpoints.load("best")[0]["model"])
        elif self._best_weights is not None:
            self._model.load_state_dict(self._best_weights)
        if self._average is not None:
            self._average.restart()


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors inside nested dicts and lists, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(entry, device) for key, entry in value.items()}
    return [_moved(entry, device) for entry in value] if isinstance(value, list) else value
