"""Ranks that were given different things say so, all with the same line, before anything is trained."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train import agreement, trainer
from bnsgcn.train.agreement import difference
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import open_part
from tests.bnsgcn.runs import weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=2, hidden=8, dropout=0.2, epochs=3, device="cpu")


def started(world: World, folders: list[Path], configs: list[TrainConfig], shape: list[int]) -> str:
    """What this rank says when it is to train with its own folder, options and width of the model."""
    mine = world.rank % len(folders)
    part, config = open_part(folders[mine], world.rank), configs[world.rank % len(configs)]
    wide = dataclasses.replace(CONFIG, hidden=shape[world.rank % len(shape)])
    try:
        Trainer(world, part, build_model(part.manifest, wide), config).train_epoch()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.multi
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.02}, "rank 2 has --lr 0.02, rank 0 has 0.01; start all workers with the same options"),
        ({"seed": 7}, "rank 2 has --seed 7, rank 0 has 0; start all workers with the same options"),
        ({"resume": True, "epochs": 9}, "rank 2 has --epochs 9, rank 0 has 3 (and differ in --resume); "),
        ({"kernel": "torch"}, "rank 2 has --kernel torch, rank 0 has auto; "),
        ({"threads": 1, "timeout_s": 30.0}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_a_rank_with_other_options_is_named(
    changed: dict[str, Any], message: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    configs = [CONFIG, CONFIG, dataclasses.replace(CONFIG, **changed)]
    said = run_ranks(started, 3, tmp_path, [parts_folder("single", 3)], configs, [8])
    assert said[0].startswith(message)
    assert bool(said[0]) == bool(message)
    assert said == [said[0]] * 3


@pytest.mark.multi
def test_a_rank_with_other_parts_or_another_model_is_named(parts_folder: PartsFolder, tmp_path: Path) -> None:
    here, stale = parts_folder("single", 2), parts_folder("single", 2, "metis")
    digests = [open_part(folder, 0).manifest.digest[:12] for folder in (here, stale)]
    said = run_ranks(started, 2, tmp_path, [here, stale], [CONFIG], [8])
    line = f"rank 1 has parts {digests[1]}, rank 0 has {digests[0]}; give every machine the same folder"
    assert said == [f"{line} of parts"] * 2
    more = run_ranks(started, 2, tmp_path, [here, parts_folder("single", 3)], [CONFIG], [8])
    assert more[0] == more[1]
    assert more[0].startswith("rank 1 has parts ")
    said = run_ranks(started, 2, tmp_path, [here], [CONFIG], [8, 12])
    assert said[0] == said[1]
    assert said[0].startswith("rank 1 has model ")
    assert said[0].endswith("; build the same model on every rank")


def unchecked(world: World, folder: Path, config: TrainConfig, rate: float) -> str:
    """The weights after an epoch with another learning rate on rank 1, when nobody compares."""
    agreed, trainer.agree = trainer.agree, lambda *_: None
    try:
        part = open_part(folder, world.rank)
        mine = dataclasses.replace(config, lr=rate) if world.rank == 1 else config
        found = Trainer(world, part, build_model(part.manifest, mine), mine)
        found.train_epoch()
        return weights_digest(found.model)
    finally:
        trainer.agree = agreed


@pytest.mark.multi
def test_without_the_comparison_replicas_drift_apart(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 2)
    same = run_ranks(unchecked, 2, tmp_path, folder, CONFIG, CONFIG.lr)
    other = run_ranks(unchecked, 2, tmp_path, folder, CONFIG, 0.5)
    assert same[0] == same[1]
    assert other[0] != other[1]


def of_other_code(world: World, folder: Path) -> str:
    if world.rank == 1:
        agreement.code_digest, known = lambda: "f" * 64, agreement.code_digest
    try:
        return started(world, [folder], [CONFIG], [8])
    finally:
        if world.rank == 1:
            agreement.code_digest = known


@pytest.mark.multi
def test_a_rank_with_other_code_is_named(parts_folder: PartsFolder, tmp_path: Path) -> None:
    mine = agreement.code_digest()[:12]
    expected = f"rank 1 has code ffffffffffff, rank 0 has {mine}; install the same version on every machine"
    assert run_ranks(of_other_code, 2, tmp_path, parts_folder("single", 2)) == [expected] * 2


def test_the_digest_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for text in ("one", "two", "one"):
        (tmp_path / "deep").mkdir(exist_ok=True)
        (tmp_path / "deep" / "code.c").write_text(text)
        (tmp_path / "notes.txt").write_text(str(len(found)))
        monkeypatch.setattr("partition.__path__", [str(tmp_path)])
        agreement.code_digest.cache_clear()
        found.append(agreement.code_digest())
    agreement.code_digest.cache_clear()
    assert found[0] == found[2] != found[1]


def test_the_rank_that_differs_from_most_is_named() -> None:
    ranks = [{"--lr": "0.1", "--seed": "0"}] * 64
    for odd in (0, 5, 63):
        changed = [*ranks]
        changed[odd] = {"--lr": "0.2", "--seed": "0", "--new": "1"}
        usual = 1 if odd == 0 else 0
        assert difference(changed).startswith(
            f"rank {odd} has --lr 0.2, rank {usual} has 0.1 (and differ in --new); "
        )
    assert difference([{"--a": "1"}, {"--b": "1"}]).startswith("rank 1 has --a none, rank 0 has 1 (and")


def test_shapes_names_and_formats_of_a_model_count() -> None:
    models = [torch.nn.Linear(2, 3), torch.nn.Linear(3, 2), torch.nn.Linear(2, 3).double()]
    models += [torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(2, 3)]
    digests = [agreement.shape_digest(model) for model in models]
    assert digests[0] == digests[4]
    assert len(set(digests)) == 4


def torchruns_worker(
    rank: int, port: int, parts: Path, run_dir: Path, *options: str
) -> subprocess.Popen[str]:
    environment = os.environ | {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RUN_ID": "one", "GROUP_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "launch.train", str(parts), "--run-dir", str(run_dir), *options]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.multi
def test_two_nodes_with_other_options_end_with_status_2_and_write_nothing(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's agent has one
    folder, run_dir = parts_folder("single", 2), tmp_path / "run"
    workers = [
        torchruns_worker(rank, store.port, folder, run_dir, "--layers", "2", "--hidden", "8", "--lr", rate)
        for rank, rate in enumerate(("0.01", "0.02"))
    ]
    ends = [(worker.communicate(timeout=120)[1], worker.returncode) for worker in workers]
    expected = "rank 1 has --lr 0.02, rank 0 has 0.01; start all workers with the same options\n"
    for said, status in ends:
        assert status == 2, said
        assert said.endswith(expected), said
        assert said.count("\n") == 1, said
    assert not run_dir.exists()
