"""Law 5: the same seed gives bitwise the same weights, and so does a run that was stopped and taken up again.

Whatever is in flight, smoothed, cached or counted is in the checkpoint; a fresh Trainer reads it from disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.seal import folder_name
from bnsgcn.train.trainer import Trainer
from partition.store import open_part
from tests.bnsgcn.runs import trainer_of, weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

EPOCHS = 6
BASE = TrainConfig(layers=3, hidden=8, heads=2, dropout=0.3, lr=0.02, epochs=EPOCHS, eval_every=3)
ALL = {
    "sampling_rate": 0.4,
    "pipeline": True,
    "smooth_features": True,
    "smooth_gradients": True,
    "wire_dtype": "int8",
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"model": "gat", "inductive": True, "precompute": False},
    {"norm": "batch", "precompute": True},
    {"pipeline": True, "wire_dtype": "int4"},
    {"pipeline": True, "first_epoch": "zeros", "model": "gcn"},
    {"sampling_rate": 0.3, "sampler": "uniform", "draw_per_layer": True},
    {"sampling_rate": 0.4, "halo_cache": True, "smooth_features": True, "pipeline": True},
    ALL,
    {"optimizer": "adamw", "weight_decay": 0.1, "lr_schedule": "cosine", "warmup": 3}
    | {"clip_norm": 0.5, "ema": 0.9, "label_smoothing": 0.1, "norm": "batch"},
    ALL | {"halo_cache": True, "gradient_wire_dtype": "fp16", "inductive": True},
    {"residual": True, "norm": "batch", "linear_layers": 1, "jumping_knowledge": "max", "input_linear": True}
    | {"pipeline": True, "sampling_rate": 0.5, "activation": "gelu", "init": "uniform"},
]


def name_of(options: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items()) or "exact"


def digests(world: World, folder: Path, config: TrainConfig) -> list[str]:
    """The weights after every epoch."""
    trainer = trainer_of(world, folder, config)
    found = []
    for _ in range(EPOCHS):
        trainer.train_epoch()
        found.append(scored_digest(trainer))
    return found


def scored_digest(trainer: Trainer) -> str:
    """Of the weights or, with --ema, of their average, which holds them too."""
    with trainer.scored_weights():
        return weights_digest(trainer.model)


def kept_trainer(
    world: World, folder: Path, run_dir: Path, config: TrainConfig, kind: type[Checkpoints] = Checkpoints
) -> Trainer:
    part = open_part(folder, world.rank)
    checkpoints = kind(run_dir, world)
    return Trainer(world, part, build_model(part.manifest, config), config, checkpoints=checkpoints)


class KeepsAll(Checkpoints):
    """No checkpoint makes room for another."""

    def _needed(self, newest: Path) -> set[Path]:
        return set(self.folder.iterdir())


class Forgetful(KeepsAll):
    """Breach: what a rank alone knows comes back as zeros."""

    def load(self, which: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shared, own = super().load(which)
        return shared, zeroed(own)


def zeroed(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    if isinstance(value, dict):
        return {name: zeroed(entry) for name, entry in value.items()}
    return [zeroed(entry) for entry in value] if isinstance(value, list) else value


def stopped_everywhere(
    world: World, folder: Path, run_dir: Path, config: TrainConfig, forget: bool = False
) -> tuple[list[str], list[str]]:
    """The weights after every epoch of a run that is saved after each, and at the end of those that go on.

    A fresh trainer reads each checkpoint from disk.
    """
    first = kept_trainer(world, folder, run_dir, config, KeepsAll)
    straight, ends = [], []
    for _ in range(EPOCHS):
        first.train_epoch()
        straight.append(scored_digest(first))
        first.save()
    for stop in range(1, EPOCHS):
        second = kept_trainer(world, folder, run_dir, config, Forgetful if forget else KeepsAll)
        second.load(str(run_dir / "checkpoints" / folder_name(stop)))
        assert second.progress.epoch == stop
        for _ in range(EPOCHS - stop):
            second.train_epoch()
        ends.append(scored_digest(second))
    return straight, ends


def once_and_stopped(
    world: World, folder: Path, run_dir: Path, config: TrainConfig
) -> tuple[list[str], list[str], list[str]]:
    """The weights after every epoch of a run, and what `stopped_everywhere` says."""
    return digests(world, folder, config), *stopped_everywhere(world, folder, run_dir, config)


@pytest.mark.multi
@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_same_seed_same_bits_and_stopped_anywhere_same_bits(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **options), parts_folder("single", 3)
    ranks = run_ranks(once_and_stopped, 3, tmp_path, folder, tmp_path / "run", config)
    assert ranks[0] == ranks[1] == ranks[2]
    once, again, ends = ranks[0]
    assert once == again
    assert len(set(once)) == EPOCHS
    assert ends == [once[-1]] * (EPOCHS - 1)


@pytest.mark.multi
def test_another_seed_gives_other_bits(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 3)
    one, other = (
        run_ranks(digests, 3, tmp_path, folder, dataclasses.replace(BASE, **ALL, seed=seed))[0]
        for seed in (0, 1)
    )
    assert not set(one) & set(other)


@pytest.mark.multi
@pytest.mark.parametrize("options", [{"pipeline": True}, {"smooth_features": True}, OPTIONS[6]], ids=name_of)
def test_lanes_that_are_not_taken_up_again_are_noticed(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **options), parts_folder("single", 2)
    straight, ends = run_ranks(stopped_everywhere, 2, tmp_path, folder, tmp_path / "run", config, True)[0]
    assert straight[-1] not in ends


def fit(world: World, folder: Path, run_dir: Path, config: TrainConfig) -> tuple[str, dict[str, Any]]:
    trainer = kept_trainer(world, folder, run_dir, config)
    summary = trainer.fit()
    return weights_digest(trainer.model), summary


@pytest.mark.multi
def test_fit_goes_on_from_the_last_checkpoint_and_evaluation_does_not_disturb_it(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **ALL), parts_folder("single", 2)
    straight, summary = run_ranks(fit, 2, tmp_path, folder, tmp_path / "straight", config)[0]
    never = dataclasses.replace(config, eval_every=0)
    assert run_ranks(fit, 2, tmp_path, folder, tmp_path / "never", never)[0][0] == straight
    broken_off = dataclasses.replace(config, epochs=4)
    run_ranks(fit, 2, tmp_path, folder, tmp_path / "resumed", broken_off)
    resumed = dataclasses.replace(config, resume=True)
    digest, again = run_ranks(fit, 2, tmp_path, folder, tmp_path / "resumed", resumed)[0]
    assert digest == straight
    for name in ("epochs", "final_loss"):
        assert again[name] == summary[name]
