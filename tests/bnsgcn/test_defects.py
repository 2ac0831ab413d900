"""What went wrong in earlier systems stays right here.

singletons reached from the model            test_two_runs_in_one_process_do_not_meet
a reducer that races autograd                test_law1: weights bitwise equal on all ranks after every step
memory that grows                            test_no_deadlock: test_memory_is_flat
an unseeded sampler                          test_global_generators_do_not_matter
division by zero without a shared boundary   test_no_deadlock: test_parts_without_any_shared_boundary
int(rate n) == 0 drops a neighbour           test_every_neighbour_is_heard_at_any_rate
a scale on one transport only                test_the_scale_is_the_same_on_every_transport
an average that starts at zero               test_law4: test_an_average_starts_at_the_first_value...
dropout before or after the exchange         test_rows_are_dropped_out_before_they_leave
batch-norm gradients reduced twice           test_norm: test_batch_norm_is_torchs_over_all_rows
an exception that becomes a hang             test_a_rank_that_fails_does_not_leave_the_others_waiting
last sends never drained                     test_after_the_end_nothing_is_in_flight
the whole graph loaded to evaluate           test_a_rank_opens_its_own_part_alone
a final save into a folder nobody made       test_trainer: test_the_best_weights_are_kept
timings with printing and evaluation         test_trainer: test_the_listener_is_told...
one width for all layers' messages           test_law6: widths 3, 5, 7 and 8 in one model
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from partition.store import open_part
from tests.bnsgcn.by_hand import original_ids
from tests.bnsgcn.runs import trainer_of, weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=2, hidden=6, dropout=0.3, dtype="float64")
SAMPLED = dataclasses.replace(CONFIG, sampling_rate=0.3, seed=2)
EPOCHS = 5


def digest_after(world: World, folder: Path, config: TrainConfig, global_seed: int) -> str:
    torch.manual_seed(global_seed)
    np.random.seed(global_seed)
    random.seed(global_seed)
    trainer = trainer_of(world, folder, config)
    for _ in range(EPOCHS):
        trainer.train_epoch()
    return weights_digest(trainer.model)


def two_runs_in_turn(world: World, folder: Path, configs: tuple[TrainConfig, TrainConfig]) -> list[str]:
    trainers = [trainer_of(world, folder, config) for config in configs]
    for _ in range(EPOCHS):
        for trainer in trainers:
            trainer.train_epoch()
            trainer.evaluate()
    return [weights_digest(trainer.model) for trainer in trainers]


@pytest.mark.multi
def test_two_runs_in_one_process_do_not_meet(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 2)
    one = dataclasses.replace(SAMPLED, pipeline=True, smooth_features=True)
    other = dataclasses.replace(CONFIG, model="gcn", wire_dtype="int8", seed=5)
    apart = [run_ranks(digest_after, 2, tmp_path, folder, config, 0)[0] for config in (one, other)]
    assert run_ranks(two_runs_in_turn, 2, tmp_path, folder, (one, other))[0] == apart


@pytest.mark.multi
def test_global_generators_do_not_matter(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 2)
    config = dataclasses.replace(SAMPLED, wire_dtype="int8")
    first, second = (run_ranks(digest_after, 2, tmp_path, folder, config, seed) for seed in (0, 1))
    assert first == second


def rows_by_owner(world: World, folder: Path, config: TrainConfig) -> tuple[list[int], list[int]]:
    """Rows that arrive from each owner in the first epoch, and slots that this rank has of each."""
    trainer = trainer_of(world, folder, config)
    trainer.training.begin(0)
    hop, part = trainer.training.hops[0], trainer.part
    offset = part.manifest.part_offset
    owner = np.searchsorted(offset, np.arange(part.manifest.num_nodes), side="right") - 1
    owner_of_node = owner[np.argsort(original_ids(folder))]
    _, arriving = hop.post(hop.src.node_ids.double().unsqueeze(1))
    arrived = arriving.wait()
    assert arrived is not None
    nodes = arrived.rows[:, 0].long().numpy()
    found = np.bincount(owner_of_node[nodes], minlength=world.size)
    return found.tolist(), np.diff(part.halo_splits).tolist()


@pytest.mark.multi
@pytest.mark.parametrize("sampler", ["uniform", "importance"])
def test_every_neighbour_is_heard_at_any_rate(
    sampler: Any, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, sampling_rate=1e-6, sampler=sampler, prune=False)
    for found, slots in run_ranks(rows_by_owner, 3, tmp_path, parts_folder("single", 3), config):
        assert found == [min(1, n) for n in slots]
        assert sum(found) == 2


def scales(world: World, folder: Path, configs: list[TrainConfig]) -> list[tuple[list[float], list[int]]]:
    """Scale of every row that arrives in epoch 1, and the slots that this rank has of each owner."""
    found = []
    for config in configs:
        trainer = trainer_of(world, folder, config)
        for epoch in range(2):
            trainer.training.begin(epoch)
            hop = trainer.training.hops[1]
            h, arriving = hop.post(torch.ones(len(hop.src), 4, dtype=torch.float64).requires_grad_())
            arrived = arriving.wait()
            assert arrived is not None
            (arrived.rows.sum() + h.sum()).backward()
        assert arrived.scale is not None
        found.append((arrived.scale.tolist(), np.diff(trainer.part.halo_splits).tolist()))
    return found


@pytest.mark.multi
def test_the_scale_is_the_same_on_every_transport(parts_folder: PartsFolder, tmp_path: Path) -> None:
    transports: list[dict[str, Any]] = [
        {},
        {"pipeline": True},
        {"pipeline": True, "first_epoch": "zeros"},
        {"wire_dtype": "int8"},
        {"wire_dtype": "bf16", "smooth_features": True, "smooth_gradients": True},
    ]
    uniform = dataclasses.replace(SAMPLED, prune=False, sampler="uniform")
    configs = [dataclasses.replace(uniform, **options) for options in transports]
    for found in run_ranks(scales, 2, tmp_path, parts_folder("single", 2), configs):
        for values, slots in found:
            rows = sum(slots)
            drawn = round(0.3 * rows)
            assert values == [rows / drawn] * drawn


def arrived_zeros(world: World, folder: Path, config: TrainConfig) -> float:
    """The share of zeros among the rows that arrive for layer 1 in a training epoch."""
    trainer, seen = trainer_of(world, folder, config), []
    lane = trainer.training.hops[1].lane
    assert lane is not None
    take = lane.take_features

    def watched(*args: Any) -> Any:
        taken = take(*args)
        seen.append(float((taken[0].rows == 0).double().mean()))
        return taken

    lane.take_features = watched  # type: ignore[method-assign]
    trainer.train_epoch()
    return seen[0]


@pytest.mark.multi
def test_rows_are_dropped_out_before_they_leave(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """ReLU makes about half of the entries zero; dropout at their owner nearly all the others."""
    config = dataclasses.replace(CONFIG, dropout=0.9, norm="none", hidden=4)
    folder = parts_folder("single", 2)
    assert min(run_ranks(arrived_zeros, 2, tmp_path, folder, config)) > 0.85
    assert max(run_ranks(arrived_zeros, 2, tmp_path, folder, dataclasses.replace(config, dropout=0.0))) < 0.8


def fail_or_wait(world: World, folder: Path, config: TrainConfig) -> tuple[str, float]:
    """Rank 1 leaves in epoch 3; what the others meet, and after how many seconds."""
    trainer = trainer_of(world, folder, config)
    for _ in range(3):
        trainer.train_epoch()
    if world.rank == 1:
        world.close()  # with messages in flight
        return "left", 0.0
    start = time.monotonic()
    try:
        trainer.train_epoch()
    except RuntimeError as failure:
        return type(failure).__name__, time.monotonic() - start
    return "nothing", 0.0


@pytest.mark.multi
@pytest.mark.parametrize("pipeline", [False, True])
def test_a_rank_that_fails_does_not_leave_the_others_waiting(
    pipeline: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, pipeline=pipeline)
    found = run_ranks(fail_or_wait, 3, tmp_path, parts_folder("single", 3), config, timeout_s=120, fresh=True)
    assert found[1] == ("left", 0.0)
    for met, seconds in (found[0], found[2]):
        assert met not in ("nothing", "left")
        assert seconds < 30


def end_and_look(world: World, folder: Path, config: TrainConfig) -> list[int]:
    """Messages that each lane still holds after the group was left; all of them have to be whole."""
    trainer = trainer_of(world, folder, config)
    trainer.fit()
    world.close()
    held = []
    for lane in trainer.training.lanes:
        state = lane.state()
        held.append(
            sum(
                len(message["rows"]) > 0
                for box in ("features", "gradients")
                for message in state[box].values()
            )
        )
    return held


@pytest.mark.multi
def test_after_the_end_nothing_is_in_flight(parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, pipeline=True, epochs=4, eval_every=0, layers=3)
    for held in run_ranks(
        end_and_look, 2, tmp_path, parts_folder("single", 2), config, timeout_s=120, fresh=True
    ):
        assert len(held) == 3
        assert all(held)  # what the next epoch would have read is here


def opened_files(world: World, folder: Path, config: TrainConfig) -> set[str]:
    """Names under the parts folder that this rank opens while it trains, evaluates and predicts."""
    opened: set[str] = set()

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], (str, Path)) and str(args[0]).startswith(str(folder)):
            opened.add(Path(args[0]).relative_to(folder).parts[0])

    sys.addaudithook(audit)
    trainer = trainer_of(world, folder, config)
    trainer.train_epoch()
    trainer.evaluate()
    trainer.predict()
    return opened


@pytest.mark.multi
def test_a_rank_opens_its_own_part_alone(parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, inductive=True)
    ranks = run_ranks(opened_files, 2, tmp_path, parts_folder("single", 2), config, timeout_s=120, fresh=True)
    assert ranks == [{"manifest.json", "part_00000"}, {"manifest.json", "part_00001"}]
    assert open_part(parts_folder("single", 2), 0).num_inner < 48
