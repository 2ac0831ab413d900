"""A model that fills a buffer from the rows of one worker is stopped after the first epoch, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn import SAGEConv
from bnsgcn.train.buffers import check_buffers
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import open_part
from tests.bnsgcn.small_graphs import CLASSES, FEATURES, PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(epochs=4, eval_every=2)


class Centred(torch.nn.Module):
    """Subtracts a running mean of the rows that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("last", torch.zeros(1), persistent=False)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1  # the same on every rank
            self.last = h.sum()  # nobody saves it
            self.mean = self.mean.lerp(h.mean(0), 0.1)
        return h - self.mean


class Net(torch.nn.Module):
    """One graph layer behind a norm of one's own."""

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm, self.conv = norm, SAGEConv(FEATURES, CLASSES)

    def forward(self, hops: Any, x: torch.Tensor) -> torch.Tensor:
        return self.conv(hops[0], self.norm(x))  # type: ignore[no-any-return]


def trained(world: World, folder: Path, norm: torch.nn.Module) -> tuple[str, int]:
    """What a run ends with, and after how many epochs."""
    torch.manual_seed(0)
    trainer = Trainer(world, open_part(folder, world.rank), Net(norm), CONFIG)
    try:
        trainer.fit()
    except UserError as error:
        return str(error), trainer.progress.epoch
    return "trained", trainer.progress.epoch


@pytest.mark.multi
def test_a_buffer_of_one_ranks_rows_is_named_on_every_rank(parts_folder: PartsFolder, tmp_path: Path) -> None:
    ranks = run_ranks(trained, 3, tmp_path, parts_folder("single", 3), Centred())
    assert ranks[0] == ranks[1] == ranks[2]
    line, epochs = ranks[0]
    assert line.startswith("the buffer norm.mean (Centred) differs by 0.")
    assert line.count("\n") == 0
    assert epochs == 1
    alone = trained(World.single(), parts_folder("single", 1), Centred())
    assert alone == ("trained", 4)


@pytest.mark.multi
def test_a_converted_batch_norm_passes(parts_folder: PartsFolder, tmp_path: Path) -> None:
    ranks = run_ranks(trained, 2, tmp_path, parts_folder("single", 2), torch.nn.BatchNorm1d(FEATURES))
    assert ranks == [("trained", 4)] * 2


def told(world: World, values: list[list[float]]) -> str:
    model = torch.nn.Module()
    model.register_buffer("kept", torch.tensor(values[world.rank]))
    try:
        check_buffers(world, model)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.multi
def test_rounding_is_no_difference_and_a_number_is_not_nan(tmp_path: Path) -> None:
    nan = float("nan")
    assert run_ranks(told, 2, tmp_path, [[1.0, nan], [1.0 + 5e-7, nan]]) == ["", ""]
    assert run_ranks(told, 2, tmp_path, [[1e-9, 1.0], [1.1e-9, 1.0]]) == ["", ""]
    for other in ([1.001, nan], [1.0, 1.0]):
        first, second = run_ranks(told, 2, tmp_path, [[1.0, nan], other])
        assert first == second
        assert first.startswith("the buffer kept (Module) differs by ")
