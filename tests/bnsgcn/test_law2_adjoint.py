"""Law 2: the exchange is linear and its backward is its transpose: <E x, y> = <x, E' y> on 2 to 4 ranks.

Whole numbers in float64 make every product and sum exact, so the two sides are compared with ==.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.lane import Lane
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import FEATURES, PartsFolder
from tests.multiprocess import run_ranks

EXACT = TrainConfig(layers=2, hidden=4, dtype="float64", prune=False)


def both_sides(world: World, folder: Path, config: TrainConfig, scaled: bool) -> tuple[float, float, int]:
    """This rank's shares of <E x, y> and <x, E' y>, and the most readers that one of its rows has."""
    trainer = trainer_of(world, folder, config)
    trainer.training.begin(3)
    hop = trainer.training.hops[0]
    generator = torch.Generator().manual_seed(world.rank)

    def whole_numbers(rows: int) -> torch.Tensor:
        return torch.randint(-9, 10, (rows, FEATURES), generator=generator).double().to(world.device)

    x = whole_numbers(len(hop.src)).requires_grad_()
    scale = torch.randint(1, 5, (len(hop.src),), generator=generator).double().to(world.device)
    h, arriving = hop.post(x, scale if scaled else None)
    arrived = arriving.wait()
    assert arrived is not None
    y = whole_numbers(arrived.rows.shape[0])
    inner_product = (arrived.rows * y).sum()
    (inner_product + 0 * h.sum()).backward()
    assert x.grad is not None
    readers = np.unique(trainer.part.boundary_rows, return_counts=True)[1]
    return float(inner_product), float((x.detach() * x.grad).sum()), int(readers.max(initial=0))


def sides(ranks: list[tuple[float, float, int]]) -> tuple[float, float]:
    return sum(rank[0] for rank in ranks), sum(rank[1] for rank in ranks)


@pytest.mark.multi
@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_backward_is_the_transpose(
    parts: int, scaled: bool, rate: float, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(EXACT, sampling_rate=rate)
    ranks = run_ranks(both_sides, parts, tmp_path, parts_folder("single", parts), config, scaled)
    forward, backward = sides(ranks)
    assert forward == backward != 0
    if rate == 1:
        assert max(readers for _, _, readers in ranks) == parts - 1


def assigned(self: Lane, total: torch.Tensor, index: torch.Tensor, rows: torch.Tensor, _: Any) -> None:
    """Breach: the last reader's gradient instead of the sum of all readers'."""
    total[index] = rows


def both_sides_assigned(world: World, folder: Path) -> tuple[float, float, int]:
    with mock.patch.object(Lane, "add_rows", assigned):
        return both_sides(world, folder, EXACT, False)


@pytest.mark.multi
def test_a_gradient_that_is_assigned_instead_of_added_is_noticed(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    one_reader = run_ranks(both_sides_assigned, 2, tmp_path, parts_folder("single", 2))
    assert sides(one_reader)[0] == sides(one_reader)[1], "with one reader a row there is nothing to add"
    forward, backward = sides(run_ranks(both_sides_assigned, 3, tmp_path, parts_folder("single", 3)))
    assert forward != backward
