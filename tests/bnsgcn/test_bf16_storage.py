"""--storage bf16: any number of parts trains alike within what rounding rows allows; bits come back.

What is rounded is a row of a layer, and a sum twice where a halo block is added to an inner one: so runs on
other numbers of parts differ by rounding, and all of them from float32 by little more.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import open_part
from tests.bnsgcn import test_law5_reproducible as law5
from tests.bnsgcn.runs import Recorded, one_run, record, run_on, trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

BASE = TrainConfig(layers=3, hidden=16, heads=2, dropout=0.3, lr=0.01, storage="bf16")
STEPS = 6
BOUND = 2.0**-6
"""Of losses, and of logits beside the largest: of eight roundings, 2^-9 each, on a path to them."""
MODELS: list[dict[str, Any]] = [
    {"model": "sage"},
    {"model": "sage", "precompute": True, "inductive": True, "linear_layers": 1},
    {"model": "gcn", "norm": "none"},
    {"model": "gcn", "hidden": 4, "norm": "batch"},
    {"model": "gat"},
]


def apart(mine: Recorded, theirs: Recorded) -> float:
    """The largest relative difference of losses, and of the first logits beside the largest of them."""
    losses = max(abs(a - b) / abs(b) for a, b in zip(mine.losses, theirs.losses, strict=True))
    seen = ~np.isnan(theirs.train_logits)
    logits = (
        np.abs(mine.train_logits - theirs.train_logits)[seen].max() / np.abs(theirs.train_logits[seen]).max()
    )
    return max(losses, float(logits))


@pytest.mark.multi
@pytest.mark.parametrize("options", MODELS, ids=lambda options: " ".join(map(str, options.values())))
def test_parts_and_float32_are_near(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, **options)
    one = run_on(parts_folder("single", 1), 1, config, tmp_path, STEPS)
    exact = run_on(parts_folder("single", 1), 1, dataclasses.replace(config, storage="fp32"), tmp_path, STEPS)
    assert 0 < apart(one, exact) < BOUND
    many = run_on(parts_folder("single", 3), 3, config, tmp_path, STEPS)
    assert apart(many, one) < BOUND
    other = run_on(parts_folder("single", 1), 1, dataclasses.replace(config, seed=1), tmp_path, STEPS)
    assert apart(other, one) > BOUND, "the comparison would let another run pass"


@pytest.mark.multi
@pytest.mark.parametrize("options", [{}, law5.ALL], ids=law5.name_of)
def test_same_bits_twice_and_resumed(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(law5.BASE, storage="bf16", **options), parts_folder("single", 2)
    first = run_ranks(law5.digests, 2, tmp_path, folder, config)
    assert first == run_ranks(law5.digests, 2, tmp_path, folder, config)
    assert first[0] == first[1]
    ranks = run_ranks(law5.stopped_everywhere, 2, tmp_path, folder, tmp_path / "run", config)
    assert ranks == [(first[0], [first[0][-1]] * (law5.EPOCHS - 1))] * 2


@pytest.mark.multi
def test_features_in_host_memory_are_rounded_alike(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, near = parts_folder("single", 2), run_on(parts_folder("single", 2), 2, BASE, tmp_path, STEPS)
    config = dataclasses.replace(BASE, features="host")
    far = one_run(run_ranks(record, 2, tmp_path, folder, config, STEPS, device="late"))
    assert apart(far, near) < BOUND


@pytest.mark.parametrize("kind", ["sparse", "single"])
def test_rows_are_kept_as_bf16_and_weights_are_not(kind: str, parts_folder: PartsFolder) -> None:
    trainer = trainer_of(World.single(), parts_folder(kind, 1), BASE)
    kept: list[torch.dtype] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 2 and tensor.shape[0] == trainer.training.layers[0].destination.size:
            kept.append(tensor.dtype)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.train_epoch()
    assert set(kept) == {torch.bfloat16}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in trainer.model.parameters() if p.grad is not None} == {torch.float32}
    if kind == "single":
        assert isinstance(trainer.training.features, torch.Tensor)
        assert trainer.training.features.dtype == torch.bfloat16


def test_what_it_does_not_fit(parts_folder: PartsFolder) -> None:
    with pytest.raises(UserError, match="--storage bf16 keeps rows of float32; leave out --dtype float64"):
        dataclasses.replace(BASE, dtype="float64")

    class Own(torch.nn.Module):
        """A model of one's own."""

    part = open_part(parts_folder("single", 1), 0)
    own = Own()
    own.inner = build_model(part.manifest, BASE)
    with pytest.raises(UserError, match="--storage bf16 and the model of your own: leave one out"):
        Trainer(World.single(), part, own, BASE)
