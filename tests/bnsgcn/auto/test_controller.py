"""Ranks agree, a run depends on its decisions alone, and goes on from any epoch as if never stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnsgcn.auto.decision import Decision
from bnsgcn.auto.recorded_decisions import decisions_in
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.settings import Setting
from bnsgcn.nn.models import build_model
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import open_part, read_manifest
from tests.bnsgcn.runs import weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

EPOCHS, PARTS = 14, 3
BASE = TrainConfig(
    layers=3, hidden=8, dropout=0.3, lr=0.02, epochs=EPOCHS, eval_every=3, policy="auto", aim="bytes"
)
EXACT = dataclasses.replace(BASE, policy="fixed", aim="time")
LAYERS = (0, 1, 2)


def thin(rate: float, wire: Any, *, pipeline: bool = False) -> Setting:
    rates = np.full((3, PARTS, PARTS), rate) * np.array([1.0, 0.5, 0.8])[:, None, None]
    return Setting(layers=LAYERS, rates=rates, wires=(wire,) * 3, pipeline=pipeline)


def at(epoch: int, setting: Setting) -> Decision:
    return Decision(epoch=epoch, stage="hold", reason="made up", setting=setting)


EVERYTHING = [
    at(0, Setting.whole(LAYERS, PARTS)),
    at(2, thin(0.5, "int8")),
    at(4, Setting.whole(LAYERS, PARTS, pipeline=True)),
    at(6, thin(0.6, "bf16", pipeline=True)),
    at(8, thin(0.4, "fp32")),
    at(10, Setting.whole(LAYERS, PARTS, "bf16")),
    at(12, Setting.whole(LAYERS, PARTS)),
]
"""Every kind of setting after every other kind."""
STOPS = (1, 4, 5, 7, 8, 11)
"""Before the first decision that was measured, around those that turn staleness on and off, and later."""


def trainer_of(
    world: World,
    folder: Path,
    config: TrainConfig,
    run_dir: Path,
    given: list[Decision] | None,
    run: RunFolder | None = None,
) -> Trainer:
    part, checkpoints = open_part(folder, world.rank), Checkpoints(run_dir, world)
    model = build_model(part.manifest, config)
    trainer = Trainer(world, part, model, config, run=run, checkpoints=checkpoints)
    if given is not None:
        assert trainer._auto is not None
        trainer._auto.follow(given, EPOCHS)
    return trainer


def digests(
    world: World, folder: Path, config: TrainConfig, run_dir: Path, given: list[Decision] | None
) -> list[str]:
    trainer, found = trainer_of(world, folder, config, run_dir, given), []
    for _ in range(EPOCHS):
        trainer.train_epoch()
        found.append(weights_digest(trainer.model))
    return found


def stopped_everywhere(
    world: World, folder: Path, config: TrainConfig, run_dir: Path, given: list[Decision] | None
) -> list[str]:
    """For some epochs: stop after it, start a fresh trainer from disk, go on; the weights at the end."""
    ends = []
    for stop in STOPS:
        first = trainer_of(world, folder, config, run_dir / str(stop), given)
        for _ in range(stop):
            first.train_epoch()
        first.save()
        second = trainer_of(world, folder, config, run_dir / str(stop), given)
        second.load("latest")
        for _ in range(EPOCHS - stop):
            second.train_epoch()
        ends.append(weights_digest(second.model))
    return ends


@pytest.mark.multi
@pytest.mark.parametrize("given", [None, EVERYTHING], ids=["decided", "everything"])
def test_stopped_anywhere_same_bits(
    given: list[Decision] | None, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder = parts_folder("single", PARTS)
    straight = run_ranks(digests, PARTS, tmp_path, folder, BASE, tmp_path / "straight", given)
    assert straight[0] == straight[1] == straight[2]
    ends = run_ranks(stopped_everywhere, PARTS, tmp_path, folder, BASE, tmp_path / "run", given)
    assert ends == [[straight[0][-1]] * len(STOPS)] * PARTS


@pytest.mark.multi
def test_exact_decisions_are_the_exact_run_bit_by_bit(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """And others are not."""
    folder = parts_folder("single", PARTS)
    exact = run_ranks(digests, PARTS, tmp_path, folder, EXACT, tmp_path / "exact", None)[0]
    for name, given in {"same": EVERYTHING[:1], "other": EVERYTHING[:2]}.items():
        found = run_ranks(digests, PARTS, tmp_path, folder, BASE, tmp_path / name, given)[0]
        assert (found == exact) == (name == "same")
        assert found[:2] == exact[:2]


def fitted(world: World, folder: Path, config: TrainConfig, run_dir: Path) -> tuple[str, dict[str, Any]]:
    run = RunFolder(run_dir)
    if world.rank == 0:
        run.create(config, read_manifest(folder), folder)
    world.barrier()
    trainer = trainer_of(world, folder, config, run_dir, None, run)
    summary = trainer.fit()
    return weights_digest(trainer.model), summary


@pytest.mark.multi
def test_decisions_are_recorded_with_reasons_and_replayed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", PARTS)
    first = run_ranks(fitted, PARTS, tmp_path, folder, BASE, tmp_path / "first")[0][0]
    lines = RunFolder(tmp_path / "first").metrics()
    made = decisions_in(lines, PARTS)
    assert [each.stage for each in made] == ["measure", "coarse", "coarse", "fine"]
    assert [each.epoch for each in made] == [0, 1, 10, 12]
    assert all(each.reason for each in made)
    assert "auto" not in RunFolder(tmp_path / "first").rank_metrics(0)[0]
    replayed = dataclasses.replace(BASE, replay=str(tmp_path / "first"))
    assert run_ranks(fitted, PARTS, tmp_path, folder, replayed, tmp_path / "again")[0][0] == first
    again = decisions_in(RunFolder(tmp_path / "again").metrics(), PARTS)
    assert [each.setting.to_json() for each in again] == [each.setting.to_json() for each in made]
    other = dataclasses.replace(replayed, seed=1)
    assert run_ranks(fitted, PARTS, tmp_path, folder, other, tmp_path / "other")[0][0] != first
    for line in lines:  # another line decides otherwise
        for each in line.get("auto", []):
            each["setting"] |= {"rates": [1.0] * 3, "wires": ["fp32"] * 3}
    (tmp_path / "first" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_ranks(fitted, PARTS, tmp_path, folder, replayed, tmp_path / "changed")[0][0] != first
    with pytest.raises(UserError, match=r"--replay .* has decisions for 14 epochs, --epochs is 15; use at"):
        from bnsgcn.auto.recorded_decisions import decisions_of

        longer = dataclasses.replace(replayed, epochs=15)
        decisions_of(tmp_path / "first", longer, read_manifest(folder))


@pytest.mark.multi
def test_a_budget_of_bytes_holds(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", PARTS)
    exact = run_ranks(fitted, PARTS, tmp_path, folder, EXACT, tmp_path / "exact")[0][1]
    whole = exact["sent_bytes_per_epoch"]
    config = dataclasses.replace(BASE, aim="time", max_bytes=0.5 * whole)
    run_ranks(fitted, PARTS, tmp_path, folder, config, tmp_path / "run")
    sent = [line["comm/sent_bytes"] for line in RunFolder(tmp_path / "run").metrics()]
    assert 0.2 * whole < sum(sent) / EPOCHS <= 0.5 * whole


@pytest.mark.multi
def test_by_time_ranks_agree_and_what_was_decided_is_recorded(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder, config = parts_folder("single", PARTS), dataclasses.replace(BASE, aim="time")
    ranks = run_ranks(fitted, PARTS, tmp_path, folder, config, tmp_path / "run")
    assert len({digest for digest, _ in ranks}) == 1
    made = decisions_in(RunFolder(tmp_path / "run").metrics(), PARTS)
    assert made[0].stage == "measure"
    assert made[0].measured["slowest_bytes_per_s"] > 0
