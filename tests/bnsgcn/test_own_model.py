"""A user's own module is trained from Python, alone and on two workers, by the file that the site shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.train.trainer import Trainer
from partition.build import partition_graph
from partition.store import open_part
from tests.bnsgcn.own_model import SkipNet, train
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

SOURCE = "synthetic:nodes=600,degree=8,features=16,classes=4,communities=8,seed=1"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("own")
    for parts in (1, 2):
        partition_graph(SOURCE, parts=parts, out=root / str(parts))
    return {parts: root / str(parts) for parts in (1, 2)}


@pytest.mark.multi
def test_the_example_learns_on_one_process_and_on_two(folders: dict[int, Path], tmp_path: Path) -> None:
    alone = train(World.single(), str(folders[1]))
    first, second = run_ranks(train, 2, tmp_path, str(folders[2]))
    assert first["test_score"] == second["test_score"]
    assert alone["test_score"] > 0.6  # chance is 0.25
    assert first["test_score"] == pytest.approx(alone["test_score"], abs=0.05)


def test_the_example_runs_as_a_program(folders: dict[int, Path]) -> None:
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, str(root / "tests/bnsgcn/own_model.py"), str(folders[1])],
        cwd=root,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ran.stdout.startswith("accuracy on the test nodes: 0.")
    assert ran.stderr == ""


def losses(world: World, folder: Path) -> list[float]:
    part = open_part(folder, world.rank)
    torch.manual_seed(0)
    model = SkipNet(part.manifest.num_features, 6, part.manifest.num_classes)
    trainer = Trainer(world, part, model, TrainConfig(dtype="float64", lr=0.01))
    return [trainer.train_epoch()["loss"] for _ in range(5)]


@pytest.mark.multi
def test_a_model_of_ones_own_obeys_law_1(parts_folder: PartsFolder, tmp_path: Path) -> None:
    alone = losses(World.single(), parts_folder("idle", 1))
    assert len(set(alone)) == 5
    one = losses(World.single(), parts_folder("single", 1))
    for rank in run_ranks(losses, 3, tmp_path, parts_folder("single", 3)):
        assert np.abs(np.array(rank) - one).max() < 1e-10
    assert np.abs(np.array(alone) - one).max() > 1e-3  # another graph
