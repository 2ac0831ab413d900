"""Training: an epoch reads as its phases, a run as its epochs.

The same trainer serves one process and many, our models and a user's own module. It knows nothing of
command lines; see run.py for what a worker process does around it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnsgcn import kernels as kernel_backends
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.clock import Clock
from bnsgcn.exchange.lane import Lane
from bnsgcn.exchange.profiled_lane import ProfiledLane
from bnsgcn.nn.convert import convert_batch_norms
from bnsgcn.nn.loss import Loss
from bnsgcn.nn.models import GNN
from bnsgcn.record import measurements
from bnsgcn.record.recorder import Recorder
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.sent_bytes import SentBytes
from bnsgcn.record.spans import ProfiledSpans, Spans
from bnsgcn.record.tracker import Tracker
from bnsgcn.train.agreement import agree
from bnsgcn.train.average import WeightAverage
from bnsgcn.train.buffers import check_buffers
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.choosing import controller_of, follow_recorded
from bnsgcn.train.evaluate import Scores, evaluate, first_non_finite_layer, logits_of
from bnsgcn.train.gradients import FlatGradients
from bnsgcn.train.hop_sets import HopSet, HopSets, Stage
from bnsgcn.train.keeper import Keeper
from bnsgcn.train.optimizer import MakeOptimizer, Rates, Schedule, make_adam
from bnsgcn.train.profiling import Profile
from bnsgcn.train.progress import Progress
from bnsgcn.train.schedule import schedule_of
from bnsgcn.train.scores import OwnMetric, chosen_metric, name_of
from bnsgcn.train.target import Target
from bnsgcn.train.unscaled import unscaled_notes
from bnsgcn.train.validation import with_validation
from partition.labels import TRAIN
from partition.store import Part


class NonFiniteLoss(RuntimeError):
    """The loss is not a number any more."""


class Trainer:
    """Trains a model on this worker's part, together with all other workers.

    Args:
        world: who this worker is; `World.single()` for one process.
        part: this worker's part, `partition.store.open_part(folder, world.rank)`.
        model: any module whose forward(hops, x) gives the logits of hops[-1]'s destination rows; built from
            `bnsgcn.nn` convolutions, one hop each. The same on all ranks (rank 0's weights are taken).
        config: options; those of the model's shape are not looked at.
        optimizer: makes the optimiser of the model's parameters; None = the options', whose learning rate
            and weight decay are not looked at otherwise.
        schedule: factor on the learning rate of every epoch; None = what the options say.
        loss: this rank's share of the loss; None = cross-entropy, of multi-hot labels binary cross-entropy.
        metric: what the best checkpoint is chosen by; None = what the options say.
        run: run folder for records; None = none are written.
        checkpoints: where checkpoints go; None = none, and the best weights are kept in memory.
        listener: follows the run on rank 0; `bnsgcn.record.tracker.Several` joins a few.

    Raises:
        UserError: ranks were given different things, workers and parts differ in number, or options do not
            fit the model or the graph.
    """

    def __init__(
        self,
        world: World,
        part: Part,
        model: torch.nn.Module,
        config: TrainConfig,
        *,
        optimizer: MakeOptimizer | None = None,
        schedule: Schedule | None = None,
        loss: Loss | None = None,
        metric: OwnMetric | None = None,
        run: RunFolder | None = None,
        checkpoints: Checkpoints | None = None,
        listener: Tracker | None = None,
    ) -> None:
        given = {"optimizer": optimizer, "schedule": schedule, "loss": loss}
        given["model"] = None if isinstance(model, GNN) else model
        config.check_own([kind for kind, function in given.items() if function is not None])
        convert_batch_norms(model, world)
        agree(world, config, part.manifest, model)
        part, self._notes = with_validation(world, part, config)
        dtype = dtype_of(config)
        self.world, self.part, self.config = world, part, config
        self.model = model.to(world.device, dtype)
        self.progress = Progress()
        named, note = chosen_metric(config, part.manifest)
        self._score = metric or named
        self.metric = named if metric is None else name_of(metric)
        self._notes.append(note if metric is None else f"metric: {self.metric}, a function of your own")
        self._stage = make_stage(world, config)
        self._sets = HopSets(self._stage, part, self.model, config)
        self.training = self._sets.training
        self._notes += self._stage.notes
        chosen = self._sets.labelled(TRAIN)
        self._target = Target(world, part, self.training.logits_rows, chosen, dtype, config, own=loss)
        self._gradients = FlatGradients(self.model.parameters())
        self._optimizer = (optimizer or make_adam(config))(list(self.model.parameters()))
        self._rates = Rates(self._optimizer, schedule or schedule_of(config, self.progress))
        self._average = WeightAverage(self.model.parameters(), config.ema) if config.ema else None
        self._auto = controller_of(self.training, config)
        self._run, self._recorder = run, Recorder(world, run, listener)
        self._profile = None
        if config.profile is not None and run is not None:
            self._profile = Profile(world, self.model, self.progress, config.profiled, run.path)
        self._keeper = Keeper(
            checkpoints,
            model=self.model,
            optimizer=self._optimizer,
            progress=self.progress,
            lanes=self.training.lanes,
            average=self._average,
            controller=self._auto,
        )

    @property
    def evaluation(self) -> HopSet:
        """Hops for validation and test nodes, built when first asked for. Collective."""
        return self._sets.evaluation

    # ---- a run ----

    def fit(self, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Train to the end; returns the summary. Collective.

        A run that is over already stays as it is.

        Args:
            facts: what else the summary is to hold.
        """
        try:
            return self._fit(facts or {})
        finally:
            self._recorder.close()

    def _fit(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        self._start()
        if self.progress.is_over(self.config):
            ended = self._recorder.end_again(self.summary())
            if ended is not None:
                return ended
        train_epoch = self.train_epoch if self._profile is None else self._profile.around(self.train_epoch)
        while not self.progress.is_over(self.config):
            measured = train_epoch()
            scores = self.evaluate() if self._evaluation_is_due() else None
            better = scores is not None and self.progress.note(scores, self.config)
            # Before the checkpoint: an epoch that is not trained again has its line.
            found = {} if scores is None else {"val_score": scores.val, "test_score": scores.test}
            self._recorder.epoch(measured, found, {} if self._auto is None else self._auto.told())
            if better or self._checkpoint_is_due(evaluated=scores is not None):
                self.save()
        self.training.drain()
        summary = self.summary() | dict(facts)
        if self._profile is not None:
            self._profile.close()
            summary |= {"profile": self._profile.facts} if self._profile.facts else {}
        self._recorder.end(summary)
        return summary

    def _start(self) -> None:
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            self.world.broadcast(tensor.data)
        if self._average is not None:
            self._average.restart()
        if self.config.resume and self._keeper.holds_any():
            self.load("latest")
        manifest = self.part.manifest
        if self._auto is not None:
            follow_recorded(self.world, self._auto, self.config, manifest, self._run)
        self._recorder.start(
            self.progress.epoch,
            {
                "name": manifest.name,
                "parts": self.world.size,
                "model": self.config.model if isinstance(self.model, GNN) else type(self.model).__name__,
                "epochs": self.config.epochs,
                "start_epoch": self.progress.epoch,
                "config": self.config.to_json(),
                "metric": self.metric,
                "notes": [*self._notes, *unscaled_notes(self.part)],
                "nodes": manifest.num_nodes,
                "arcs": manifest.num_arcs,
                "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
                "kernel": self._stage.kernels.name,
            },
        )

    def _evaluation_is_due(self) -> bool:
        every, epoch = self.config.eval_every, self.progress.epoch
        return epoch == self.config.epochs or (every > 0 and epoch % every == 0)

    def _checkpoint_is_due(self, *, evaluated: bool) -> bool:
        every, progress = self.config.checkpoint_every, self.progress
        return progress.is_over(self.config) or (progress.epoch % every == 0 if every else evaluated)

    def train_epoch(self) -> dict[str, float]:
        """One epoch: forward, backward, reduce, step. Returns this rank's measurements. Collective."""
        epoch, stage = self.progress.epoch, self._stage
        self.model.train()
        stage.sent.reset()
        every = self.config.telemetry_every
        if self._auto is not None:
            with stage.spans.measure("epoch"):
                self._auto.begin(epoch)
        self.training.begin(epoch, watched=bool(every) and epoch % every == 0)
        self._rates.begin(epoch)
        with stage.spans.measure("epoch"):
            self._gradients.zero()
            loss = self._target.loss(self.model(self.training.hops, self.training.features))
            loss.backward()
            self.training.prepare(epoch + 1)
            with stage.spans.measure("reduce"):
                self.progress.loss = float(self._gradients.reduce(self.world, loss))
            if not math.isfinite(self.progress.loss):  # before the step: it would spoil every weight
                self._stop_at_non_finite(epoch)
            if self.config.clip_norm:
                self._gradients.clip(self.config.clip_norm)
            self._optimizer.step()
            if self._average is not None:
                self._average.update(epoch + 1)
        self.progress.epoch += 1
        if epoch == 0:
            check_buffers(self.world, self.model)
        measured = measurements.of_rank(epoch, self.progress.loss, stage.spans.collect(), stage.sent)
        if self._auto is not None:
            with stage.spans.measure("epoch"):  # of the next
                best = self.progress.best_val if self.progress.best_epoch >= 0 else None
                self._auto.end(epoch, measured, best)
        return measured | self.training.telemetry()

    def _stop_at_non_finite(self, epoch: int) -> None:
        layers = [*self._sets.convs, *(m for m in self.model.modules() if isinstance(m, torch.nn.Linear))]
        layer = first_non_finite_layer(self.model, self.evaluation, layers)
        where = "the training forward pass" if layer is None else f"layer {layer}"
        raise NonFiniteLoss(
            f"the loss is {self.progress.loss} in epoch {epoch}, first in {where}; "
            f"lower --lr (now {self.config.lr:g}) or look at the features"
        )

    # ---- scores and checkpoints ----

    def evaluate(self, *, per_class: bool = False) -> Scores:
        """Exact validation and test score of the weights, with --ema of their average. Collective.

        `per_class`: with precision, recall and F1 of every class on the test nodes.
        """
        self.training.drain()
        check_buffers(self.world, self.model)
        with self.scored_weights():
            return evaluate(self.model, self.evaluation, self.part, self._score, per_class=per_class)

    def scored_weights(self) -> contextlib.AbstractContextManager[None]:
        """While it is open the model has the weights that it is scored by: with --ema, their average."""
        return contextlib.nullcontext() if self._average is None else self._average.in_place()

    def save(self) -> None:
        """Write a checkpoint of the whole loop: weights, optimiser, counters, lanes in flight. Collective."""
        self.training.drain()
        self._recorder.sync()
        self._keeper.save()

    def load(self, which: str) -> None:
        """Take over a checkpoint: "latest", "best" or a path. Collective."""
        self._keeper.load(which)

    def load_best(self) -> None:
        """Take over the weights of the best validation score so far. Collective."""
        self._keeper.load_best()

    def predict(self) -> Tensor:
        """Logits [I, C] of all inner rows of the part, exact, in the part's order. Collective."""
        self.training.drain()
        with self.scored_weights():
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
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            **self._recorder.over_the_run(),
            "parts": self.world.size,
            "config": self.config.to_json(),
        }


def usable_kernels(config: TrainConfig, device: torch.device) -> kernel_backends.Kernels:
    """The kernels that the options ask for.

    Raises:
        UserError: The device cannot do what the options ask for.
    """
    for option, value in (("amp", config.amp), ("storage", config.storage)):
        if value == "bf16":
            kernel_backends.check_bf16(device, f"--{option} bf16")
    return kernel_backends.select(config.kernel, device, dtype_of(config))


def dtype_of(config: TrainConfig) -> torch.dtype:
    """The numbers of weights and sums."""
    return torch.float64 if config.dtype == "float64" else torch.float32


def make_stage(world: World, config: TrainConfig) -> Stage:
    """What the hops of a worker share, by the options."""
    kernels = usable_kernels(config, world.device)
    note = kernel_backends.note_of(config.kernel, kernels, world.device)
    return Stage(
        world=world,
        kernels=kernels,
        clock=Clock(config.seed),
        spans=Spans(world.device) if config.profile is None else ProfiledSpans(world.device),
        lane=Lane if config.profile is None else ProfiledLane,
        sent=SentBytes(),
        dtype=dtype_of(config),
        precision=torch.bfloat16 if "bf16" in (config.amp, config.storage) else None,
        storage=torch.bfloat16 if config.storage == "bf16" else None,
        notes=[] if note is None else [note],
    )
