"""torch's batch norms in a model of one's own look at the rows of all workers; what cannot is refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn import SAGEConv
from bnsgcn.nn.convert import AllRowsBatchNorm, convert_batch_norms
from bnsgcn.train import trainer as trainer_module
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import open_part
from tests.bnsgcn.small_graphs import CLASSES, FEATURES, NODES, PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(dtype="float64", lr=0.01)
STEPS = 6


class Normed(torch.nn.Module):
    """Two graph layers with a norm between them."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        # Without a bias: its gradient would be zero but for rounding, and Adam divides by next to nothing.
        self.first, self.second = SAGEConv(FEATURES, 6, bias=False), SAGEConv(6, CLASSES)
        self.norms = torch.nn.ModuleList([norm(6)])

    def forward(self, hops: Any, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norms[0](self.first(hops[0], x)))
        return self.second(hops[1], h)  # type: ignore[no-any-return]


NORMS: dict[str, Any] = {
    "plain": torch.nn.BatchNorm1d,
    "cumulative": lambda features: torch.nn.BatchNorm1d(features, eps=0.1, momentum=None, affine=False),
    "torch's sync": lambda features: torch.nn.SyncBatchNorm(features, momentum=0.3),
}
Figures = tuple[list[float], dict[str, np.ndarray], np.ndarray]


def figures(world: World, folder: Path, norm: str, inductive: bool, converted: bool = True) -> Figures:
    """Losses, the state after some steps, and all nodes' logits [N, C] (NaN for nodes of other ranks)."""
    torch.manual_seed(0)
    model, part = Normed(NORMS[norm]), open_part(folder, world.rank)
    config = TrainConfig(dtype="float64", lr=0.01, inductive=inductive, prune=converted)
    with (
        mock.patch.object(
            trainer_module, "convert_batch_norms", convert_batch_norms if converted else lambda *_: None
        ),
        mock.patch.object(trainer_module, "check_buffers"),
    ):
        trainer = Trainer(world, part, model, config)
    with mock.patch.object(trainer_module, "check_buffers"):
        losses = [trainer.train_epoch()["loss"] for _ in range(STEPS)]
    logits = np.full((NODES, CLASSES), np.nan)
    logits[part.node_ids] = trainer.predict().numpy()
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}, logits


def difference(ranks: list[Figures], expected: Figures) -> float:
    logits = np.nanmax([found[2] for found in ranks], axis=0)
    worst = float(np.abs(logits - expected[2]).max())
    for losses, state, _ in ranks:
        assert state.keys() == expected[1].keys()
        worst = max(worst, float(np.abs(np.array(losses) - expected[0]).max()))
        worst = max(worst, *(float(np.abs(state[name] - expected[1][name]).max()) for name in state))
    return worst


@pytest.mark.multi
@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("norm", ["plain", "cumulative"])
def test_any_number_of_parts_trains_as_torch_does_on_one(
    norm: str, inductive: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Losses, weights, running statistics and exact logits; torch's own module sees all rows at once."""
    expected = figures(World.single(), parts_folder("single", 1), norm, inductive, converted=False)
    for parts in (1, 2, 3, 4):
        folder = parts_folder("single", parts)
        ranks = (
            [figures(World.single(), folder, norm, inductive)]
            if parts == 1
            else run_ranks(figures, parts, tmp_path, folder, norm, inductive)
        )
        assert difference(ranks, expected) < 1e-10, parts


@pytest.mark.multi
def test_torchs_own_sync_batch_norm_works_without_cuda(parts_folder: PartsFolder, tmp_path: Path) -> None:
    alone = figures(World.single(), parts_folder("single", 1), "torch's sync", False)
    ranks = run_ranks(figures, 3, tmp_path, parts_folder("single", 3), "torch's sync", False)
    assert difference(ranks, alone) < 1e-10


@pytest.mark.multi
def test_statistics_of_one_rank_would_be_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    expected = figures(World.single(), parts_folder("single", 1), "plain", False, converted=False)
    ranks = run_ranks(figures, 2, tmp_path, parts_folder("single", 2), "plain", False, False)
    assert difference(ranks, expected) > 1e-2


def test_a_model_is_converted_in_place_with_its_parameters_and_names() -> None:
    model = Normed(torch.nn.BatchNorm1d)
    before, parameters, world = dict(model.state_dict()), list(model.parameters()), World.single()
    for _ in range(2):  # a second Trainer takes it over
        world = World.single()
        convert_batch_norms(model, world)
    assert list(model.state_dict()) == list(before)
    assert all(mine is theirs for mine, theirs in zip(model.parameters(), parameters, strict=True))
    for norm in model.norms:
        assert isinstance(norm, torch.nn.BatchNorm1d)
        assert norm.world is world


def test_a_copy_is_torchs_own_again() -> None:
    norm = torch.nn.BatchNorm1d(3)
    holder = torch.nn.Sequential(norm)
    convert_batch_norms(holder, World.single())
    h = torch.randn(5, 3)
    for copied in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert isinstance(copied, AllRowsBatchNorm)
        assert copied.world is None
        assert torch.allclose(copied(h), torch.nn.BatchNorm1d(3)(h))


class Own(torch.nn.BatchNorm1d):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("norm", "named"),
    [
        (torch.nn.BatchNorm2d, "norms.0 is a BatchNorm2d, "),
        (torch.nn.LazyBatchNorm1d, "norms.0 is a LazyBatchNorm1d, "),
        (Own, "norms.0 is a Own, "),
        (
            lambda features: torch.nn.BatchNorm1d(features, track_running_stats=False),
            "norms.0 is a BatchNorm1d without running statistics, ",
        ),
    ],
)
def test_other_batch_norms_are_refused(norm: Any, named: str, parts_folder: PartsFolder) -> None:
    model = Normed((lambda _: norm()) if norm is torch.nn.LazyBatchNorm1d else norm)
    part = open_part(parts_folder("single", 1), 0)
    with pytest.raises(UserError, match=f"^{named}.*use torch.nn.BatchNorm1d or bnsgcn.nn.SyncBatchNorm$"):
        Trainer(World.single(), part, model, CONFIG)


def test_rows_of_rows_are_refused() -> None:
    norm = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    convert_batch_norms(norm, World.single())
    with pytest.raises(UserError, match=r"takes rows \[N, F\], it was given \(5, 3, 2\)"):
        norm(torch.randn(5, 3, 2))
