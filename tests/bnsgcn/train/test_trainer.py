"""What a run does besides its arithmetic: stops early, keeps the best, says where a loss broke, predicts."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.trainer import NonFiniteLoss, Trainer
from partition.graph import TEST, VAL
from partition.store import open_part
from tests.bnsgcn.runs import trainer_of, weights_digest
from tests.bnsgcn.small_graphs import CLASSES, FEATURES, NODES, PartsFolder, small_graph
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=3, hidden=8, dropout=0.2, epochs=12, eval_every=2)


SHOWN_S = 0.5
"""How long the listener takes; an epoch takes milliseconds, also on a machine that does other things."""


class Watching(Silent):
    """Keeps what it was told, and takes its time over each epoch."""

    def __init__(self, shown_s: float = 0.0) -> None:
        self.shown_s = shown_s
        self.epochs: list[dict[str, float]] = []
        self.started: dict[str, Any] = {}
        self.ended: dict[str, Any] = {}

    def on_start(self, facts: dict[str, Any]) -> None:
        self.started = facts

    def on_epoch(self, metrics: dict[str, float]) -> None:
        time.sleep(self.shown_s)
        self.epochs.append(metrics)

    def on_end(self, summary: dict[str, Any]) -> None:
        self.ended = summary


def alone(folder: Path, config: TrainConfig, **more: Any) -> Trainer:
    part = open_part(folder, 0)
    return Trainer(World.single(), part, build_model(part.manifest, config), config, **more)


def test_the_listener_is_told_and_its_time_is_not_the_epochs(parts_folder: PartsFolder) -> None:
    watching = Watching(SHOWN_S)
    summary = alone(parts_folder("single", 1), CONFIG, listener=watching).fit()
    assert watching.started["nodes"] == NODES
    assert watching.started["start_epoch"] == 0
    assert [line["epoch"] for line in watching.epochs] == list(range(12))
    assert ["val_score" in line for line in watching.epochs] == [False, True] * 6
    assert watching.ended == summary
    assert summary["epoch_s_median"] < SHOWN_S
    spent = summary["compute_s_median"] + summary["halo_wait_s_median"] + summary["reduce_s_median"]
    assert 0 < spent < 2 * summary["epoch_s_median"]


class NeverBetter(Trainer):
    """A trainer whose first evaluation stays the best."""

    def evaluate(self) -> Any:
        scores = super().evaluate()
        return dataclasses.replace(scores, val=1.0 - 0.01 * self.progress.epoch)


@pytest.mark.parametrize(("metric", "other"), [("roc-auc", "accuracy"), ("macro-f1", "average-precision")])
def test_the_metric_chooses_the_best(metric: Any, other: Any, parts_folder: PartsFolder) -> None:
    config, chosen = dataclasses.replace(CONFIG, epochs=20, eval_every=1, lr=0.05), {}
    for each in (metric, other):
        watching, config = Watching(), dataclasses.replace(config, metric=each)
        summary = alone(parts_folder("single", 1), config, listener=watching).fit()
        found = {line["epoch"]: line["val_score"] for line in watching.epochs if "val_score" in line}
        assert summary["metric"] == watching.started["metric"] == each
        assert summary["val_score"] == max(found.values()) == found[summary["best_epoch"]]
        chosen[each] = summary["best_epoch"]
    assert chosen[metric] != chosen[other], "or else this shows nothing"


@pytest.mark.parametrize(("patience", "epochs"), [(0, 12), (1, 4), (3, 8)])
def test_patience_counts_evaluations_without_a_better_score(
    patience: int, epochs: int, parts_folder: PartsFolder
) -> None:
    config = dataclasses.replace(CONFIG, patience=patience)
    part = open_part(parts_folder("single", 1), 0)
    summary = NeverBetter(World.single(), part, build_model(part.manifest, config), config).fit()
    assert summary["epochs"] == epochs
    assert summary["best_epoch"] == 1
    assert summary["val_score"] == pytest.approx(0.98)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_best_weights_are_kept(on_disk: bool, parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, run_dir = parts_folder("single", 1), tmp_path / "a" / "folder" / "that nobody made"
    checkpoints = Checkpoints(run_dir, World.single()) if on_disk else None
    part, config = open_part(folder, 0), CONFIG
    trainer = NeverBetter(
        World.single(), part, build_model(part.manifest, config), config, checkpoints=checkpoints
    )
    trainer.fit()
    last = weights_digest(trainer.model)
    trainer.load_best()
    assert weights_digest(trainer.model) != last
    two_epochs = alone(folder, config)
    for _ in range(2):
        two_epochs.train_epoch()
    assert weights_digest(trainer.model) == weights_digest(two_epochs.model)


def spoiled(world: World, folder: Path, config: TrainConfig, place: str, epoch: int) -> str:
    """The message of a run whose weight `place` is not a number from `epoch` on."""
    trainer = trainer_of(world, folder, config)
    for _ in range(epoch):
        trainer.train_epoch()
    with torch.no_grad():
        dict(trainer.model.named_parameters())[place].view(-1)[0] = torch.nan
    with pytest.raises(NonFiniteLoss) as failure:
        trainer.train_epoch()
    return str(failure.value)


@pytest.mark.multi
@pytest.mark.parametrize(
    ("place", "layer"), [("convs.0.weight_self", 0), ("convs.1.bias", 1), ("linears.0.weight", 2)]
)
def test_a_loss_that_is_no_number_names_epoch_and_layer(
    place: str, layer: int, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, linear_layers=1)
    expected = f"the loss is nan in epoch 3, first in layer {layer}; lower --lr (now 0.01)"
    assert spoiled(World.single(), parts_folder("single", 1), config, place, 3).startswith(expected)
    messages = run_ranks(spoiled, 2, tmp_path, parts_folder("single", 2), config, place, 3)
    assert all(message.startswith(expected) for message in messages)


def shares(
    world: World, folder: Path, config: TrainConfig
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Node ids, their logits, and (val, test) scores after some epochs."""
    trainer = trainer_of(world, folder, config)
    for _ in range(4):
        trainer.train_epoch()
    scores = trainer.evaluate()
    return np.array(trainer.part.node_ids), trainer.predict().numpy(), (scores.val, scores.test)


@pytest.mark.multi
@pytest.mark.parametrize("inductive", [False, True])
def test_every_node_is_predicted_once_and_scored_by_the_predictions(
    inductive: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Evaluation is exact whatever training does: scores follow from the predicted logits."""
    config = dataclasses.replace(
        CONFIG, dtype="float64", inductive=inductive, sampling_rate=0.3, pipeline=True, wire_dtype="int8"
    )
    ranks = run_ranks(shares, 3, tmp_path, parts_folder("single", 3), config)
    node_ids = np.concatenate([rank[0] for rank in ranks])
    assert sorted(node_ids) == list(range(NODES))
    logits = np.empty((NODES, CLASSES))
    logits[node_ids] = np.concatenate([rank[1] for rank in ranks])
    graph = small_graph("single")
    right = logits.argmax(1) == graph.labels
    expected = tuple(right[graph.split == split].mean() for split in (VAL, TEST))
    for _, _, scores in ranks:
        assert scores == pytest.approx(expected, abs=1e-6)


def test_parts_and_workers_must_agree(parts_folder: PartsFolder) -> None:
    part = open_part(parts_folder("single", 3), 0)
    with pytest.raises(ValueError, match=r"3 parts but 1 workers; start 3 workers or cut .* --parts 1 "):
        Trainer(World.single(), part, torch.nn.Linear(FEATURES, CLASSES), CONFIG)


def test_a_model_without_convolutions_is_refused(parts_folder: PartsFolder) -> None:
    part = open_part(parts_folder("single", 1), 0)
    with pytest.raises(ValueError, match=r"0 convolutions of bnsgcn\.nn"):
        Trainer(World.single(), part, torch.nn.Linear(FEATURES, CLASSES), CONFIG)


def test_a_graph_without_training_nodes_is_refused(parts_folder: PartsFolder) -> None:
    part = open_part(parts_folder("single", 1), 0)
    empty = dataclasses.replace(part, split=np.where(part.split == 1, 0, part.split).astype(np.uint8))
    with pytest.raises(ValueError, match="0 labelled training nodes"):
        Trainer(World.single(), empty, build_model(part.manifest, CONFIG), CONFIG)


def test_unlabelled_nodes_are_in_no_loss(parts_folder: PartsFolder) -> None:
    """A training node with label -1 counts as a node without a split."""
    part = open_part(parts_folder("single", 1), 0)
    labels = np.array(part.labels)
    chosen = np.flatnonzero(part.split == 1)[::2]
    labels[chosen] = -1
    split = np.array(part.split)
    split[chosen] = 0
    losses = [
        Trainer(World.single(), each, build_model(part.manifest, CONFIG), CONFIG).train_epoch()["loss"]
        for each in (
            dataclasses.replace(part, labels=labels),
            dataclasses.replace(part, split=split),
            part,
        )
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_run_folder_holds_a_line_an_epoch(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 1)
    run = RunFolder(tmp_path / "run")
    run.create(CONFIG, open_part(folder, 0).manifest, folder)
    summary = alone(folder, CONFIG, run=run).fit()
    lines = run.metrics()
    assert [line["epoch"] for line in lines] == list(range(12))
    assert lines[-1]["loss"] == summary["final_loss"]
    assert lines[-1]["val_score"] <= summary["val_score"]


class Killed(BaseException):
    """Stands for a signal that nobody sees coming."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("stop", [4, 6, 8])
def test_killed_around_a_checkpoint_leaves_a_line_an_epoch(
    stop: int, moment: str, parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line comes before the checkpoint that seals its epoch, and goes when that does not come."""
    folder, run = parts_folder("single", 1), RunFolder(tmp_path)
    real = Checkpoints.save

    def dying(self: Checkpoints, epoch: int, *args: Any, **options: Any) -> Path:
        if epoch == stop and moment == "before":
            raise Killed
        path = real(self, epoch, *args, **options)
        if epoch == stop:
            raise Killed
        return path

    def fit(config: TrainConfig) -> None:
        alone(folder, config, run=run, checkpoints=Checkpoints(tmp_path, World.single())).fit()

    monkeypatch.setattr(Checkpoints, "save", dying)
    with pytest.raises(Killed):
        fit(CONFIG)
    monkeypatch.undo()
    fit(dataclasses.replace(CONFIG, resume=True))
    for name in ("metrics.jsonl", "rank_0.jsonl"):
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(12)), name
