"""Vanilla training computes what exact training does and overlaps nothing; speeds of links by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import pytest

from benchmarks.netns import UNLIMITED, Speed
from benchmarks.vanilla import KINDS, vanilla
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.mailbox import Flight, Mailbox
from tests.bnsgcn.runs import trainer_of, weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=3, hidden=6, dropout=0.3)


def trained(world: World, folder: Path, config: TrainConfig, kind: str) -> tuple[str, int, int]:
    """The weights after two epochs, how many messages were taken, and of these, how many had arrived."""
    taken: list[bool] = []
    take = Mailbox.take

    def noted(box: Mailbox, epoch: int) -> Flight | None:
        flight = take(box, epoch)
        taken.append(flight is not None and flight._arrive is None)
        return flight

    with vanilla(kind), mock.patch.object(Mailbox, "take", noted):
        trainer = trainer_of(world, folder, config)
        for _ in range(2):
            trainer.train_epoch()
    return weights_digest(trainer.model), len(taken), sum(taken)


@pytest.mark.multi
def test_vanilla_training_is_exact_training_without_overlap(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder = parts_folder("single", 3)
    (exact, taken, arrived), *_ = run_ranks(trained, 3, tmp_path, folder, CONFIG, "")
    assert taken == 2 * 2 * CONFIG.layers
    assert arrived == 0
    for kind in KINDS:
        assert run_ranks(trained, 3, tmp_path, folder, CONFIG, kind) == [(exact, taken, taken)] * 3
    other = dataclasses.replace(CONFIG, sampling_rate=0.5)
    assert run_ranks(trained, 3, tmp_path, folder, other, "one-way")[0][0] != exact


def test_speeds_of_links() -> None:
    assert [Speed.of(text).name for text in ("25", "10000", "1000/100")] == [
        "25 Mbit/s",
        "10 Gbit/s",
        "1 Gbit/s there, 100 Mbit/s back",
    ]
    assert UNLIMITED.name == "no limit"
    assert Speed.of("1000/100").transfer_s((1e9, 5e8)) == 40
    assert UNLIMITED.transfer_s((1e9, 5e8)) == 0
