"""Training: an epoch reads as its phases, a run as its epochs.

The same trainer serves one process and many, our models and a user's own module. It knows nothing of
command lines; see run.py for what a worker process does around it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnsgcn import kernels as kernel_backends
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn import GNN
from bnsgcn.nn.hop import Clock
from bnsgcn.nn.loss import task_loss
from bnsgcn.plan.bytes import layer_widths
from bnsgcn.plan.memory import least_bytes, sizes_of
from bnsgcn.record import measurements
from bnsgcn.record.rss import rss_bytes
from bnsgcn.record.run_folder import Listener, RunFolder, Silent
from bnsgcn.record.sent_bytes import SentBytes
from bnsgcn.record.spans import Spans
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.evaluate import Scores, evaluate, first_non_finite_layer, logits_of
from bnsgcn.train.gradients import FlatGradients
from bnsgcn.train.hop_sets import HopSet, HopSets, Stage
from bnsgcn.train.optimizer import Adam
from bnsgcn.train.scores import MetricName, default_metric
from partition.errors import UserError
from partition.graph import TRAIN
from partition.store import Part


class NonFiniteLoss(RuntimeError):
    """The loss is not a number any more."""


@dataclasses.dataclass
class Progress:
    """Where a run is; the same on every rank and in every checkpoint."""

    epoch: int = 0
    best_val: float = -math.inf
    best_test: float = math.nan
    best_epoch: int = -1
    worse_evaluations: int = 0
    loss: float = math.nan


class Trainer:
    """Trains a model on this worker's part, together with all other workers.

    Args:
        world: who this worker is; `World.single()` for one process.
        part: this worker's part, `partition.store.open_part(folder, world.rank)`.
        model: any module whose forward(hops, x) gives the logits of hops[-1]'s destination rows; built from
            `bnsgcn.nn` convolutions, one hop each. The same on all ranks (rank 0's weights are taken).
        config: options; those of the model's shape are not looked at.
        run: run folder for records; None = none are written.
        checkpoints: where checkpoints go; None = none, and the best weights are kept in memory.
        listener: follows the run on rank 0.

    Errors: ValueError when workers and parts differ in number, or options do not fit the model.
    """

    def __init__(
        self,
        world: World,
        part: Part,
        model: torch.nn.Module,
        config: TrainConfig,
        *,
        run: RunFolder | None = None,
        checkpoints: Checkpoints | None = None,
        listener: Listener | None = None,
    ) -> None:
        if part.manifest.parts != world.size:
            raise UserError(
                f"{part.manifest.parts} parts but {world.size} workers; start {part.manifest.parts} workers "
                f"or partition into {world.size} parts"
            )
        self._process_bytes = rss_bytes()
        dtype = torch.float64 if config.dtype == "float64" else torch.float32
        self.world, self.part, self.config = world, part, config
        self.model = model.to(world.device, dtype)
        self.progress = Progress()
        self.metric: MetricName = default_metric(part.manifest.task, part.manifest.source)
        self._run, self._checkpoints, self._listener = run, checkpoints, listener or Silent()
        self._stage = Stage(
            world=world,
            kernels=kernel_backends.select(config.kernel, world.device, dtype),
            clock=Clock(config.seed),
            spans=Spans(world.device),
            sent=SentBytes(),
            dtype=dtype,
            precision=torch.bfloat16 if config.amp == "bf16" else None,
        )
        self._sets = HopSets(self._stage, part, self.model, config)
        self.training = self._sets.training
        self._aim()
        self._gradients = FlatGradients(self.model.parameters())
        self._optimizer = Adam(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self._best_weights: dict[str, Tensor] | None = None
        self._least_bytes = 0
        self._epochs: list[dict[str, float]] = []

    def _aim(self) -> None:
        """What the loss is over: places of the training nodes among the logits, labels, global count."""
        rows = self.training.logits_rows
        targets = np.flatnonzero(self._sets.labelled(TRAIN)[rows])
        device = self.world.device
        self._target_place = None if targets.size == rows.size else torch.from_numpy(targets).to(device)
        labels = torch.from_numpy(np.ascontiguousarray(self.part.labels[rows[targets]])).to(device)
        self._labels = labels if labels.dim() == 1 else labels.to(self._stage.dtype)
        self._target_count = int(self.world.all_reduce(torch.tensor([targets.size], device=device)))
        if self._target_count == 0:
            raise UserError(
                "0 labelled training nodes in all parts, at least 1 is needed; see the graph's split"
            )

    def least_bytes(self) -> dict[str, int]:
        """The least memory that an epoch on this worker needs, by purpose (see plan/memory.py).

        Empty for a model of one's own, whose widths nobody knows.
        """
        if not isinstance(self.model, GNN):
            return {}
        manifest = self.part.manifest
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        sizes, widths = sizes_of(self.training), layer_widths(manifest, self.config)
        return least_bytes(
            sizes, widths, self.config, parameters, self._process_bytes, directed=manifest.directed
        )

    @property
    def evaluation(self) -> HopSet:
        """Hops for validation and test nodes, built when first asked for. Collective."""
        return self._sets.evaluation

    # ---- a run ----

    def fit(self) -> dict[str, Any]:
        """Train to the end; returns the summary of DESIGN section 7. Collective."""
        self._start()
        config, progress = self.config, self.progress
        while progress.epoch < config.epochs:
            metrics = self.train_epoch()
            last = progress.epoch == config.epochs
            scores = None
            if last or (config.eval_every and progress.epoch % config.eval_every == 0):
                scores = self._evaluate_and_note()
            self._log(metrics, scores)  # before the epoch is sealed: what a checkpoint holds has its line
            if self._save_is_due(evaluated=scores is not None):
                self.save(best=progress.best_epoch == progress.epoch - 1)
            if config.patience and progress.worse_evaluations >= config.patience:
                break
        self.training.drain()
        summary = self.summary()
        if self._run is not None and self.world.rank == 0:
            self._run.write_summary(summary)
        if self.world.rank == 0:
            self._listener.on_end(summary)
        return summary

    def _start(self) -> None:
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            self.world.broadcast(tensor.data)
        least = torch.tensor([sum(self.least_bytes().values())], device=self.world.device)
        self._least_bytes = int(self.world.all_reduce(least, "max"))
        if self.config.resume and self._checkpoints is not None and self._checkpoints.latest() is not None:
            self.load("latest")
        if self._run is not None:
            self._run.rewind(self.progress.epoch, self.world.rank)
            if self.world.rank == 0:  # the summary is of the whole run
                self._epochs = self._run.metrics()
        if self.world.rank == 0:
            self._listener.on_start(
                {
                    "name": self.part.manifest.name,
                    "parts": self.world.size,
                    "model": self.config.model,
                    "epochs": self.config.epochs,
                    "start_epoch": self.progress.epoch,
                    "metric": self.metric,
                    "nodes": self.part.manifest.num_nodes,
                    "arcs": self.part.manifest.num_arcs,
                    "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
                    "kernel": self._stage.kernels.name,
                }
            )

    def train_epoch(self) -> dict[str, float]:
        """One epoch: forward, backward, reduce, step. Returns this rank's measurements. Collective."""
        epoch, stage = self.progress.epoch, self._stage
        self.model.train()
        stage.sent.reset()
        self.training.begin(epoch)
        probing = bool(self.config.telemetry_every) and epoch % self.config.telemetry_every == 0
        self.training.watch(probing)
        with stage.spans.measure("epoch"):
            self._gradients.zero()
            loss = self._forward()
            loss.backward()
            with stage.spans.measure("reduce"):
                self.progress.loss = float(self._gradients.reduce(self.world, loss))
            if not math.isfinite(self.progress.loss):  # before the step: it would spoil every weight
                self._stop_at_non_finite(epoch)
            self._optimizer.step()
        self.progress.epoch += 1
        measured = measurements.of_rank(epoch, self.progress.loss, stage.spans.collect(), stage.sent)
        for lane in self.training.lanes[:1]:
            if lane.probe is not None:
                measured |= lane.probe.results(self.world)
        return measured

    def _forward(self) -> Tensor:
        logits = self.model(self.training.hops, self.training.features)
        if self._target_place is not None:
            logits = logits[self._target_place]
        return task_loss(logits, self._labels, self._target_count)

    def _stop_at_non_finite(self, epoch: int) -> None:
        layers = [*self._sets.convs, *(m for m in self.model.modules() if isinstance(m, torch.nn.Linear))]
        layer = first_non_finite_layer(self.model, self.evaluation, layers)
        where = "the training forward pass" if layer is None else f"layer {layer}"
        raise NonFiniteLoss(
            f"the loss is {self.progress.loss} in epoch {epoch}, first in {where}; "
            f"lower --lr (now {self.config.lr:g}) or look at the features"
        )

    def _log(self, own: dict[str, float], scores: Scores | None) -> None:
        """Aggregate over ranks and write a line. Collective."""
        merged = measurements.of_all_ranks(self.world, own)
        if scores is not None:
            merged |= {"val_score": scores.val, "test_score": scores.test}
        self._epochs.append(merged)
        if self._run is not None:
            self._run.log_rank(self.world.rank, own)
        if self.world.rank == 0:
            if self._run is not None:
                self._run.log_epoch(merged)
            self._listener.on_epoch(merged)

    # ---- scores and checkpoints ----

    def evaluate(self) -> Scores:
        """Exact validation and test score of the weights as they are. Collective."""
        self.training.drain()
        return evaluate(self.model, self.evaluation, self.part, self.metric)

    def _evaluate_and_note(self) -> Scores:
        scores, progress = self.evaluate(), self.progress
        if scores.val > progress.best_val or progress.best_epoch < 0:
            progress.best_val, progress.best_test = scores.val, scores.test
            progress.best_epoch, progress.worse_evaluations = progress.epoch - 1, 0
            if self._checkpoints is None:
                self._best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        else:
            progress.worse_evaluations += 1
        return scores

    def _save_is_due(self, *, evaluated: bool) -> bool:
        """The best, the last, and every so many epochs or with every evaluation."""
        epoch, every = self.progress.epoch, self.config.checkpoint_every
        if epoch == self.config.epochs or self.progress.best_epoch == epoch - 1:
            return True
        return epoch % every == 0 if every else evaluated

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint of the whole loop: weights, optimiser, counters, lanes in flight. Collective."""
        if self._checkpoints is None:
            return
        self.training.drain()
        shared = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": dataclasses.asdict(self.progress),
        }
        own = {"lanes": [lane.state() for lane in self.training.lanes]}
        self._checkpoints.save(self.progress.epoch, shared, own, best=best)

    def load(self, which: str) -> None:
        """Take over a checkpoint: "latest", "best" or a path. Collective."""
        assert self._checkpoints is not None
        shared, own = self._checkpoints.load(which)
        self.model.load_state_dict(shared["model"])
        self._optimizer.load_state_dict(shared["optimizer"])
        self.progress = Progress(**shared["progress"])
        for lane, state in zip(self.training.lanes, own["lanes"], strict=True):
            lane.load(_moved(state, self.world.device))

    def load_best(self) -> None:
        """Take over the weights of the best validation score so far. Collective."""
        if self._checkpoints is not None:
            shared, _ = self._checkpoints.load("best")
            self.model.load_state_dict(shared["model"])
        elif self._best_weights is not None:
            self.model.load_state_dict(self._best_weights)

    def predict(self) -> Tensor:
        """Logits [I, C] of all inner rows of the part, exact, in the part's order. Collective."""
        self.training.drain()
        return logits_of(self.model, self._sets.exact(np.ones(self.part.split.size, bool)))

    def summary(self) -> dict[str, Any]:
        """The run in figures; medians leave out the first epochs."""
        progress = self.progress
        return {
            "metric": self.metric,
            "val_score": progress.best_val,
            "test_score": progress.best_test,
            "best_epoch": progress.best_epoch,
            "epochs": progress.epoch,
            "final_loss": progress.loss,
            **measurements.of_run(self._epochs),
            **({"least_rss_bytes": self._least_bytes} if self._least_bytes else {}),
            "parts": self.world.size,
            "config": self.config.to_json(),
        }


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors inside nested dicts and lists, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(entry, device) for key, entry in value.items()}
    return [_moved(entry, device) for entry in value] if isinstance(value, list) else value
