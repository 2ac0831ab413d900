"""One memory formula: what `inspect`, `plan` and `train` say of the same part is the same figure."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.plan.bytes import RunBytes
from bnsgcn.plan.costs import plan
from bnsgcn.plan.machine import Machine
from bnsgcn.plan.memory import PROCESS_BYTES, PlannedSizes, parameter_count, peak_bytes, sizes_of
from bnsgcn.run import least_bytes_of
from bnsgcn.train.trainer import Trainer
from partition.store import open_part, read_manifest
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

RATES = Machine(sum_bytes_per_s=1e10, products_per_s=5e10, pass_bytes_per_s=2e9)


@pytest.mark.parametrize(
    ("model", "norm", "linear", "layers"),
    list(itertools.product(("gcn", "sage", "gat"), ("layer", "batch", "none"), (0, 1), (2, 4))),
)
def test_weights_are_counted_as_they_are_made(
    parts_folder: PartsFolder, model: str, norm: str, linear: int, layers: int
) -> None:
    manifest = read_manifest(parts_folder("single", 2))
    config = TrainConfig(model=model, norm=norm, linear_layers=linear, layers=layers, hidden=24)  # type: ignore[arg-type]
    made = build_model(manifest, config)
    expected = sum(parameter.numel() for parameter in made.parameters())
    sizes = manifest.num_features, manifest.num_classes
    assert parameter_count(config, *sizes) == expected
    more = dataclasses.replace(
        config, residual=True, input_linear=linear == 1, jumping_knowledge="cat" if linear else None
    )
    expected = sum(parameter.numel() for parameter in build_model(manifest, more).parameters())
    assert parameter_count(more, *sizes) == expected
    wider = dataclasses.replace(config, hidden=28)
    assert parameter_count(wider, *sizes) > parameter_count(config, *sizes)


def test_inspect_and_plan_agree(parts_folder: PartsFolder) -> None:
    folder, config = parts_folder("single", 3), TrainConfig(layers=3, hidden=32)
    planned = [rank.peak_bytes for rank in plan(folder, config, RATES).ranks]
    assert planned == peak_bytes(folder, config)
    assert min(planned) > PROCESS_BYTES
    assert peak_bytes(folder, dataclasses.replace(config, hidden=256)) > planned


@pytest.mark.parametrize("prune", [True, False])
def test_weights_of_arcs_are_counted_as_they_are_kept(parts_folder: PartsFolder, prune: bool) -> None:
    """Four bytes for each arc of a block and of its transpose, where that is another; none for attention."""
    folder = parts_folder("oneway", 1)
    config = TrainConfig(layers=3, hidden=16, prune=prune)
    trainer = trainer_of(World.single(), folder, config)
    blocks = {id(block): block for layer in trainer.training.layers for block in (layer.inner, layer.halo)}
    pieces = [piece for block in blocks.values() for piece in (block.csr, block.transposed)]
    kept = sum(piece.weights.nbytes for piece in pieces if piece.weights is not None)
    assert kept > 0
    assert least_bytes_of(trainer, 0)["graph"] - _without_weights(trainer)["graph"] == kept
    worker = plan(folder, config, RATES).ranks[0].memory_bytes
    assert worker["graph"] == least_bytes_of(trainer, 0)["graph"]
    attention = dataclasses.replace(config, model="gat")
    without = _without_weights(trainer_of(World.single(), folder, attention))["graph"]
    assert plan(folder, attention, RATES).ranks[0].memory_bytes["graph"] == without


def _without_weights(trainer: Trainer) -> dict[str, int]:
    with mock.patch("bnsgcn.run.sums_weights", return_value=False):
        return least_bytes_of(trainer, 0)


def sizes_in_training(world, folder: Path, config: TrainConfig):  # type: ignore[no-untyped-def]
    return sizes_of(trainer_of(world, folder, config).training)


@pytest.mark.multi
@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(layers=3, hidden=16),
        TrainConfig(layers=2, hidden=16, inductive=True, self_loops=False),
        TrainConfig(layers=3, hidden=16, model="gat", linear_layers=1),
    ],
)
def test_the_sizes_are_those_of_training(
    parts_folder: PartsFolder, config: TrainConfig, tmp_path: Path
) -> None:
    folder = parts_folder("single", 2)
    parts = [open_part(folder, index) for index in range(2)]
    planned = PlannedSizes(parts, config, RunBytes(parts, config))
    found = run_ranks(sizes_in_training, 2, tmp_path, folder, config)
    assert found == [planned.on(part) for part in parts]


def test_many_layers_are_planned_at_once(parts_folder: PartsFolder) -> None:
    begin = time.process_time()
    made = plan(parts_folder("single", 2), TrainConfig(layers=30_000, hidden=16), RATES)
    assert len(made.sent.layers) == 30_000
    assert time.process_time() - begin < 30  # layer by layer through the arcs it would be minutes


def test_memory_needs_no_torch() -> None:
    check = "import sys, bnsgcn.plan.memory\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
