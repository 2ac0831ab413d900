"""The average of the weights: a run is scored and kept by it, and takes it up again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.out.best_model import best_model
from bnsgcn.train.average import WeightAverage
from bnsgcn.train.trainer import Trainer
from partition.store import open_part
from tests.bnsgcn.runs import weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.bnsgcn.train.test_resume import trainer_in

CONFIG = TrainConfig(layers=2, hidden=8, dropout=0.2, epochs=9, eval_every=3, lr=0.05, ema=0.8, device="cpu")


def scored(trainer: Trainer) -> str:
    with trainer.scored_weights():
        return weights_digest(trainer.model)


def test_it_is_the_sum_with_decaying_shares() -> None:
    parameter = torch.nn.Parameter(torch.full((3,), 7.0, dtype=torch.float64))
    frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    average = WeightAverage([parameter, frozen], 0.9)
    taken = torch.tensor([[1.0, 2, 3], [0, 5, -1], [2, 2, 8], [4, 0, 1]], dtype=torch.float64)
    for epoch, weights in enumerate(taken):
        parameter.data.copy_(weights)
        average.update(epoch + 1)
    shares = 0.9 ** torch.arange(3, -1, -1, dtype=torch.float64)
    expected = (shares[:, None] * taken).sum(0) / shares.sum()
    with average.in_place():
        assert torch.allclose(parameter, expected, rtol=0, atol=1e-14)
        assert not torch.allclose(parameter, taken.mean(0))
    assert torch.equal(parameter, taken[-1])


def test_training_goes_on_with_the_weights_as_they_are(parts_folder: PartsFolder) -> None:
    """Bit for bit, whatever is averaged and evaluated."""
    part, digests = open_part(parts_folder("single", 1), 0), []
    for config in (CONFIG, dataclasses.replace(CONFIG, ema=0.0)):
        trainer = Trainer(World.single(), part, build_model(part.manifest, config), config)
        trainer.fit()
        digests.append(weights_digest(trainer.model))
        assert (scored(trainer) == digests[-1]) == (config.ema == 0)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("on_disk", [False, True])
def test_scores_and_the_best_are_of_the_average(
    on_disk: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder, run_dir = parts_folder("single", 1), tmp_path / "run"
    part, model = open_part(folder, 0), build_model(open_part(folder, 0).manifest, CONFIG)
    trainer = trainer_in(run_dir, folder, CONFIG) if on_disk else Trainer(World.single(), part, model, CONFIG)
    summary = trainer.fit()
    other = Trainer(World.single(), part, build_model(part.manifest, CONFIG), CONFIG)
    for _ in range(summary["best_epoch"] + 1):
        other.train_epoch()
    trainer.load_best()
    assert weights_digest(trainer.model) == scored(trainer) == scored(other) != weights_digest(other.model)
    assert trainer.evaluate().val == other.evaluate().val == summary["val_score"]
    if on_disk:
        assert weights_digest(best_model(run_dir).model) == scored(other)


def test_a_run_that_goes_on_has_the_average_too(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, short = parts_folder("single", 1), dataclasses.replace(CONFIG, epochs=4)
    straight = trainer_in(tmp_path / "straight", folder, CONFIG)
    expected = straight.fit()
    for name, forget in (("whole", False), ("forgotten", True)):
        trainer_in(tmp_path / name, folder, short).fit()
        again = trainer_in(tmp_path / name, folder, dataclasses.replace(CONFIG, resume=True))
        if forget:  # as if the checkpoint had the average alone
            again.load("latest")
            again.load_best()
            for _ in range(CONFIG.epochs - 4):
                again.train_epoch()
            assert scored(again) != scored(straight)
            continue
        assert again.fit()["val_score"] == expected["val_score"]
        assert weights_digest(again.model) == weights_digest(straight.model)
        assert scored(again) == scored(straight)
