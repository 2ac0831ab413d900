"""No combination of options waits for a message that nobody sends, however slow a rank is; memory is flat.

Ranks sleep at random before any collective. Some parts share no boundary at all.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import random
import time
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import psutil
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.pending import PeerLost, Pending
from partition.build import partition_graph
from tests.bnsgcn.runs import trainer_of, weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import RankFailure, run_ranks

EPOCHS = 25
BASE = TrainConfig(layers=2, hidden=4, dropout=0.2, epochs=EPOCHS, eval_every=9)
SLEEP_S, SLEEPS = 2e-3, 0.2

COMBINATIONS = [
    {
        "sampling_rate": rate,
        "halo_cache": cache,
        "pipeline": pipeline,
        "smooth_features": smooth,
        "smooth_gradients": smooth,
        "wire_dtype": wire,
    }
    for pipeline, smooth, wire, (rate, cache) in itertools.product(
        (False, True), (False, True), ("fp32", "int8"), ((1.0, False), (0.3, False), (0.3, True))
    )
]


class Unsteady(World):
    """Sleeps at random before any collective."""

    def _sleep(self) -> None:
        if random.random() < SLEEPS:
            time.sleep(SLEEP_S * (1 + self.rank))

    def all_to_all(self, *args: Any, **names: Any) -> Any:
        self._sleep()
        return super().all_to_all(*args, **names)

    def all_reduce(self, *args: Any, **names: Any) -> Any:
        self._sleep()
        return super().all_reduce(*args, **names)

    def all_gather(self, *args: Any, **names: Any) -> Any:
        self._sleep()
        return super().all_gather(*args, **names)

    def broadcast(self, *args: Any, **names: Any) -> Any:
        self._sleep()
        return super().broadcast(*args, **names)


class Forgetful(Unsteady):
    """Breach: rank 1 does not take part in its 40th exchange of rows."""

    left: ClassVar = [40]

    def all_to_all(self, *args: Any, **names: Any) -> Any:
        self.left[0] -= self.rank == 1
        if self.rank == 1 and self.left[0] == 0:
            return World.single().all_to_all(args[0][:0], args[1][:0], [], [])
        return super().all_to_all(*args, **names)


def disguised(world: World, kind: type[World]) -> World:
    return kind(**{field.name: getattr(world, field.name) for field in dataclasses.fields(world)})


def weights_after(world: World, folder: Path, configs: list[TrainConfig], kind: type[World]) -> list[str]:
    """A digest of the weights at the end of each run."""
    random.seed(world.rank)
    ends = []
    for config in configs:
        trainer = trainer_of(disguised(world, kind), folder, config)
        trainer.fit()
        ends.append(weights_digest(trainer.model))
    return ends


@pytest.mark.multi
@pytest.mark.slow
@pytest.mark.parametrize(("parts", "kind"), [(2, "single"), (3, "apart"), (4, "apart")])
def test_every_combination_comes_to_its_end(
    parts: int, kind: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    chosen = [dataclasses.replace(BASE, **options) for options in COMBINATIONS[parts - 2 :: 3]]  # type: ignore[arg-type]
    folder = parts_folder(kind, parts)
    ranks = run_ranks(weights_after, parts, tmp_path, folder, chosen, Unsteady, timeout_s=150)
    assert all(rank == ranks[0] for rank in ranks)
    assert len(set(ranks[0])) == len(chosen)


@pytest.mark.multi
def test_parts_without_any_shared_boundary(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """A division by the rows of an empty list would end this; so would a peer that waits for one."""
    folder = parts_folder("apart", 2)
    chosen = [
        dataclasses.replace(BASE, epochs=6, sampler=sampler, **options)  # type: ignore[arg-type]
        for options in COMBINATIONS
        for sampler in ("uniform", "importance")
    ]
    ranks = run_ranks(weights_after, 2, tmp_path, folder, chosen, World)
    assert ranks[0] == ranks[1]


@pytest.mark.multi
def test_slowness_changes_no_bit(parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, **COMBINATIONS[-2], epochs=30)  # type: ignore[arg-type]
    folder = parts_folder("single", 3)
    steady, unsteady = (
        run_ranks(weights_after, 3, tmp_path, folder, [config], kind) for kind in (World, Unsteady)
    )
    assert steady == unsteady


@pytest.mark.multi
def test_a_rank_that_leaves_out_an_exchange_is_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    with pytest.raises(RankFailure):
        run_ranks(weights_after, 2, tmp_path, parts_folder("single", 2), [BASE], Forgetful, timeout_s=20)


def growth(world: World, folder: Path, config: TrainConfig, leak: bool) -> tuple[int, int]:
    """(bytes, tensors) that a rank has more of after 150 epochs than after 50."""
    trainer, leaked = trainer_of(world, folder, config), []
    if leak:
        trainer.model.register_forward_hook(lambda _, __, out: leaked.append(out))
    found = []
    for epochs in (50, 100):
        for _ in range(epochs):
            trainer.train_epoch()
        gc.collect()
        tensors = sum(isinstance(each, torch.Tensor) for each in gc.get_objects())
        found.append((psutil.Process().memory_info().rss, tensors))
    return found[1][0] - found[0][0], found[1][1] - found[0][1]


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("larger") / "parts"
    partition_graph("synthetic:nodes=1200,degree=6,features=16,classes=4,seed=1", parts=2, out=folder)
    return folder


@pytest.mark.multi
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, COMBINATIONS[-1], COMBINATIONS[-2]], ids=["exact", "cache", "all"])
def test_memory_is_flat(options: dict[str, Any], larger: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, hidden=32, **options)
    for grown_bytes, grown_tensors in run_ranks(growth, 2, tmp_path, larger, config, False, timeout_s=120):
        assert grown_bytes < 4 << 20
        assert grown_tensors <= 0


@pytest.mark.multi
@pytest.mark.slow
def test_a_leak_is_noticed(larger: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, hidden=32)
    for grown_bytes, grown_tensors in run_ranks(growth, 2, tmp_path, larger, config, True, timeout_s=120):
        assert grown_bytes > 4 << 20
        assert grown_tensors >= 100


ROWS = 2_000_000


def forget_messages(world: World) -> tuple[int, float]:
    """Exchanges that nobody waits for, then one that somebody does: messages still held, sum of the last."""
    splits = [0 if rank == world.rank else ROWS for rank in range(world.size)]
    for _ in range(3):
        time.sleep(0.3 * world.rank)
        world.all_to_all(torch.empty(ROWS, 1), torch.ones(ROWS, 1), splits, splits)
        gc.collect()
    received = torch.zeros(ROWS, 1)
    world.all_to_all(received, torch.full((ROWS, 1), 2.0), splits, splits).wait()
    return len(world.held), float(received.sum())


@pytest.mark.multi
def test_messages_that_nobody_waits_for_block_no_later_ones(tmp_path: Path) -> None:
    assert run_ranks(forget_messages, 2, tmp_path) == [(3, 2.0 * ROWS)] * 2


def test_an_exchange_that_was_waited_for_is_let_go() -> None:
    world = World.single()
    pending = Pending([mock.Mock()], (torch.ones(1),), world)
    assert world.held == {pending}
    pending.wait()
    pending.wait()
    assert not world.held


def test_what_was_given_up_says_so() -> None:
    world = World.single()
    pending = Pending([mock.Mock()], (torch.ones(1),), world)
    world.close()
    assert not world.held
    with pytest.raises(PeerLost, match="left its group"):
        pending.wait()
