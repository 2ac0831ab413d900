"""A run goes on with another number of workers: what is of the model goes over, what is of slots starts anew.

Exact training's loss curve is that of one process that was never stopped, float64, 1e-9, dropout included.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.run import _trainer
from bnsgcn.train.trainer import Trainer
from partition.assign import Recipe
from partition.reassembled import repartition
from partition.store import Part, open_part
from tests.bnsgcn.runs import as_array, weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

EXACT = TrainConfig(
    layers=3, hidden=6, dropout=0.4, lr=0.004, norm="batch", dtype="float64", eval_every=2, resume=True
)
STAGES = ((4, 4), (2, 8), (3, 14))
"""(workers, epochs until then)"""
END = STAGES[-1][1]


def taken_up(world: World, folder: Path, run_dir: Path, config: TrainConfig, breach: str = "") -> Trainer:
    """A trainer as a worker of the command makes it."""
    part, run = open_part(folder, world.rank), RunFolder(run_dir)
    run.check(config, part.manifest)
    world.barrier()
    if world.rank == 0:
        run.create(config, part.manifest, folder)
    world.barrier()
    if breach != "masks":
        return _trainer(world, part, config, run, None, own={})
    with mock.patch("bnsgcn.run.check_parts_match"):  # it would say so at once
        return _trainer(world, local_ids(part), config, run, None, own={})


def local_ids(part: Part) -> Part:
    """Breach: masks that belong to places in a part instead of nodes."""
    return dataclasses.replace(part, node_ids=np.arange(part.num_inner))


def fitted(
    world: World, folder: Path, run_dir: Path, config: TrainConfig, breach: str = ""
) -> dict[str, np.ndarray]:
    trainer = taken_up(world, folder, run_dir, config, breach)
    if breach == "moments":
        trainer._optimizer.load_state_dict = lambda state: None  # type: ignore[method-assign]
    trainer.fit()
    return {name: as_array(value) for name, value in trainer.model.state_dict().items()}


def losses(run_dir: Path) -> np.ndarray:
    lines = RunFolder(run_dir).metrics()
    assert [line["epoch"] for line in lines] == list(range(len(lines)))
    return np.array([line["loss"] for line in lines])


def cuts_of(folder: Path, root: Path) -> dict[int, Path]:
    """The parts in `folder` and what they were cut anew into, each from the one before."""
    found = {4: folder}
    for parts, before in ((2, 4), (3, 2)):
        found[parts] = root / f"{parts} parts"
        recipe = Recipe(parts=parts, method="random", seed=parts)
        repartition(found[before], recipe, out=found[parts], progress=lambda line: None)
    return found


def in_stages(cuts: dict[int, Path], tmp_path: Path, run_dir: Path, config: TrainConfig, breach: str) -> Any:
    for workers, epochs in STAGES:
        now = dataclasses.replace(config, epochs=epochs)
        broken = breach if workers != STAGES[0][0] else ""
        weights = run_ranks(fitted, workers, tmp_path, cuts[workers], run_dir, now, broken)
    return weights[0]


@pytest.mark.multi
@pytest.mark.parametrize("options", [{}, {"model": "gcn", "precompute": True, "inductive": True}], ids=str)
def test_four_then_two_then_three_workers_train_as_one_process_does(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(EXACT, epochs=END, **options)
    straight = taken_up(World.single(), parts_folder("single", 1), tmp_path / "straight", config)
    summary, expected = straight.fit(), losses(tmp_path / "straight")
    cuts = cuts_of(parts_folder("single", 4), tmp_path)

    def difference(breach: str) -> float:
        run_dir = tmp_path / f"run {breach}"
        weights = in_stages(cuts, tmp_path, run_dir, config, breach)
        found = [losses(run_dir) - expected]
        found += [weights[name] - as_array(value) for name, value in straight.model.state_dict().items()]
        return max(float(np.abs(each).max()) for each in found)

    assert expected.size == END
    assert difference("") < 1e-9
    ended = RunFolder(tmp_path / "run ").summary()
    assert ended is not None
    for name in ("val_score", "test_score", "best_epoch", "epochs"):
        assert ended[name] == summary[name], name
    assert RunFolder(tmp_path / "run ").open().parts == 3
    lines = [len(RunFolder(tmp_path / "run ").rank_metrics(rank)) for rank in range(4)]
    assert lines == [14, 14, 10, 4], "a rank's lines are of the epochs that it was there in"
    if not options:
        assert difference("masks") > 1e-4
        assert difference("moments") > 1e-4


STALE = TrainConfig(
    layers=3, hidden=6, dropout=0.3, pipeline=True, smooth_features=True, smooth_gradients=True,
    sampling_rate=0.4, halo_cache=True, eval_every=0, checkpoint_every=1, resume=True,
)  # fmt: skip


def first_loss(world: World, folder: Path, run_dir: Path, config: TrainConfig) -> float:
    """The loss of the epoch after the newest checkpoint, by the options given."""
    trainer = taken_up(world, folder, run_dir, config)
    trainer.load("latest")
    found = trainer.train_epoch()["loss"]
    trainer._recorder.close()
    return found


def stopped_after_one(world: World, folder: Path, run_dir: Path, config: TrainConfig, first: int) -> str:
    for epochs in (first, config.epochs):
        trainer = taken_up(world, folder, run_dir, dataclasses.replace(config, epochs=epochs))
        trainer.fit()
    return weights_digest(trainer.model)


@pytest.mark.multi
def test_lanes_averages_and_caches_begin_anew_as_a_run_does(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """The first epoch is exact, those after it go on to the bit; of zeros it is something else."""
    two, three = parts_folder("single", 2), parts_folder("single", 3)
    config = dataclasses.replace(STALE, epochs=5)
    run_ranks(fitted, 2, tmp_path, two, tmp_path / "run", config)
    for name in ("stale", "exact", "straight", "stopped"):
        shutil.copytree(tmp_path / "run", tmp_path / name)
    stale = run_ranks(first_loss, 3, tmp_path, three, tmp_path / "stale", config)[0]
    plain = {"pipeline": False, "smooth_features": False, "smooth_gradients": False, "halo_cache": False}
    options = json.loads((tmp_path / "exact" / "config.json").read_text())
    options["config"] |= plain | {"sampling_rate": 1.0}
    (tmp_path / "exact" / "config.json").write_text(json.dumps(options))
    exact = dataclasses.replace(config, **plain, sampling_rate=1.0)
    assert run_ranks(first_loss, 3, tmp_path, three, tmp_path / "exact", exact)[0] == pytest.approx(
        stale, 1e-5
    )
    longer = dataclasses.replace(config, epochs=9)
    straight = run_ranks(stopped_after_one, 3, tmp_path, three, tmp_path / "straight", longer, 9)
    stopped = run_ranks(stopped_after_one, 3, tmp_path, three, tmp_path / "stopped", longer, 6)
    assert straight == stopped
    assert torch.isfinite(torch.tensor(losses(tmp_path / "straight"))).all()


@pytest.mark.multi
def test_back_on_its_own_parts_a_run_takes_its_lanes_up_again(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Whoever tried other parts and saved nothing there has lost nothing."""
    two, config = parts_folder("single", 2), dataclasses.replace(STALE, epochs=8)
    straight = run_ranks(stopped_after_one, 2, tmp_path, two, tmp_path / "straight", config, 8)
    run_ranks(fitted, 2, tmp_path, two, tmp_path / "run", dataclasses.replace(config, epochs=5))
    run_ranks(first_loss, 3, tmp_path, parts_folder("single", 3), tmp_path / "run", config)
    assert run_ranks(stopped_after_one, 2, tmp_path, two, tmp_path / "run", config, 8) == straight
