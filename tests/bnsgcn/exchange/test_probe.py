"""What a probe reports is what it says: error of the aggregate, gap and age of the rows used. It only looks.

Every expected figure is worked out from the part's lists, the definition of a draw and the values that were
put in, on one rank after the other, and added up as sums of squares.
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
from bnsgcn.exchange.probe import Probe
from partition.store import Part
from tests.bnsgcn.by_hand import drawn_slots, original_ids
from tests.bnsgcn.runs import trainer_of, weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

EPOCHS = 5
BASE = TrainConfig(
    layers=2,
    hidden=6,
    dropout=0.0,
    dtype="float64",
    prune=False,
    self_loops=False,
    seed=4,
    sampler="uniform",
)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"sampling_rate": 0.4},
    {"pipeline": True},
    {"pipeline": True, "first_epoch": "zeros"},
    {"pipeline": True, "sampling_rate": 0.4},
    {"halo_cache": True, "sampling_rate": 0.4},
    {"halo_cache": True, "sampling_rate": 0.4, "pipeline": True},
    {"halo_cache": True, "sampling_rate": 0.4, "pipeline": True, "first_epoch": "zeros"},
]
KEYS = ("sampling/relative_error", "stale/relative_gap", "stale/mean_slot_age_epochs")


def values(epoch: int, node_ids: np.ndarray) -> np.ndarray:
    """[N, 2]: of a node, other in every epoch."""
    return np.stack([np.sin(1.0 + node_ids + 3 * epoch), np.cos(node_ids - 2.0 * epoch)], axis=1)


def probed(world: World, folder: Path, config: TrainConfig) -> list[dict[str, float]]:
    """What a probe of layer 0 reports in every epoch of sums over `values`."""
    trainer = trainer_of(world, folder, config)
    hop, found = trainer.training.hops[0], []
    for epoch in range(EPOCHS):
        trainer.training.begin(epoch, watched=True)
        h, arriving = hop.post(torch.from_numpy(values(epoch, trainer.part.node_ids)))
        hop.sum(h, arriving)
        found.append(trainer.training.telemetry())
    return found


def halo_used(part: Part, ids: np.ndarray, config: TrainConfig) -> list[tuple[np.ndarray, ...]]:
    """Of every epoch: slots used [R], their values [R, 2], their epochs [R], the scale [R] of the sum."""
    halo_ids = ids[part.halo_ids]
    cache, origin = np.zeros((part.num_halo, 2)), np.full(part.num_halo, -1)
    used = []
    for epoch in range(EPOCHS):
        source = epoch - 1 if config.pipeline and (epoch or config.first_epoch == "zeros") else epoch
        draw = drawn_slots(part, config, max(source, 0), 0)
        rows = values(source, halo_ids[draw]) if source >= 0 else np.zeros((draw.size, 2))
        age = np.full(draw.size, source)
        whole = np.bincount(owner_of(part), minlength=part.manifest.parts)
        drawn = np.bincount(owner_of(part)[draw], minlength=part.manifest.parts)
        scale = (whole / np.maximum(drawn, 1))[owner_of(part)[draw]]
        if config.halo_cache:
            cache[draw], origin[draw] = rows, age
            draw, rows, age, scale = np.arange(part.num_halo), cache.copy(), origin.copy(), np.ones(1)
        used.append((draw, rows, age, scale))
    return used


def owner_of(part: Part) -> np.ndarray:
    return np.repeat(np.arange(part.manifest.parts), np.diff(part.halo_splits))


def expected_sums(
    world: World, folder: Path, config: TrainConfig
) -> list[tuple[float, float, float, float, float, int]]:
    """(error, exact, gap, level, age, rows) of this rank in every epoch."""
    trainer = trainer_of(world, folder, config)
    part, ids = trainer.part, original_ids(folder)
    inner = dense(part.inner_indptr, part.inner_indices, part.num_inner)
    halo = dense(part.halo_indptr, part.halo_indices, part.num_halo)
    sums = []
    for epoch, (slots, rows, ages, scale) in enumerate(halo_used(part, ids, config)):
        fresh = values(epoch, ids[part.halo_ids])
        own = inner @ values(epoch, part.node_ids)
        right, found = own + halo @ fresh, own + halo[:, slots] @ (np.reshape(scale, (-1, 1)) * rows)
        sums.append(
            (
                float(((found - right) ** 2).sum()),
                float((right**2).sum()),
                float(((rows - fresh[slots]) ** 2).sum()),
                float((fresh[slots] ** 2).sum()),
                float((epoch - ages).sum()),
                slots.size,
            )
        )
    return sums


def dense(indptr: np.ndarray, indices: np.ndarray, columns: int) -> np.ndarray:
    matrix = np.zeros((indptr.size - 1, columns))
    np.add.at(matrix, (np.repeat(np.arange(indptr.size - 1), np.diff(indptr)), indices), 1.0)
    return matrix


@pytest.mark.multi
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: " ".join(map(str, options.items())))
def test_error_gap_and_age_are_those_worked_out_by_hand(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **options), parts_folder("single", 3)
    reported = run_ranks(probed, 3, tmp_path, folder, config)
    assert reported[0] == reported[1] == reported[2]
    ranks = run_ranks(expected_sums, 3, tmp_path, folder, config)
    for epoch, found in enumerate(reported[0]):
        error, exact, gap, level, age, rows = np.array([sums[epoch] for sums in ranks]).sum(0)
        wanted = [(error / exact) ** 0.5, (gap / level) ** 0.5, age / rows]
        assert [found[key] for key in KEYS] == pytest.approx(wanted, abs=1e-9)
        exact_again = not options or (config.pipeline and epoch == 0 and config.first_epoch == "exact")
        if exact_again and config.sampling_rate == 1:
            assert [found[key] for key in KEYS] == [pytest.approx(0, abs=1e-12)] * 3
        elif epoch > 0:
            assert found["sampling/relative_error"] > 0.01
            assert (found["stale/mean_slot_age_epochs"] > 0) == (config.pipeline or config.halo_cache)


def trained(world: World, folder: Path, config: TrainConfig) -> list[tuple[str, float, float, list[str]]]:
    """Of every epoch: the weights, bytes of features and of gradients, what telemetry there was."""
    trainer, found = trainer_of(world, folder, config), []
    for _ in range(EPOCHS):
        measured = trainer.train_epoch()
        telemetry = sorted(key for key in measured if key in KEYS)
        sent = (measured["comm/sent_feature_bytes"], measured["comm/sent_gradient_bytes"])
        found.append((weights_digest(trainer.model), *sent, telemetry))
    return found


@pytest.mark.multi
@pytest.mark.parametrize("precompute", [False, True])
def test_watching_changes_no_bit_and_counts_no_byte(
    precompute: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        BASE,
        dropout=0.3,
        dtype="float32",
        prune=True,
        precompute=precompute,
        sampling_rate=0.4,
        sampler="importance",
        pipeline=True,
        smooth_features=True,
        smooth_gradients=True,
        wire_dtype="int8",
    )
    folder = parts_folder("single", 3)
    alone = run_ranks(trained, 3, tmp_path, folder, config)
    watched = run_ranks(trained, 3, tmp_path, folder, dataclasses.replace(config, telemetry_every=2))
    assert [[epoch[:3] for epoch in rank] for rank in alone] == [
        [epoch[:3] for epoch in rank] for rank in watched
    ]
    assert [epoch[3] for epoch in alone[0]] == [[]] * EPOCHS
    assert [epoch[3] for epoch in watched[0]] == [sorted(KEYS), [], sorted(KEYS), [], sorted(KEYS)]


# Dropout makes the input another in every epoch: without it, old rows of layer 0 are as good as new ones.
ATTENTION = dataclasses.replace(BASE, model="gat", heads=2, dropout=0.3)


def attention_errors(world: World, folder: Path, config: TrainConfig) -> list[tuple[float, float]]:
    """Of every epoch the reported error of layer 0, and that of its results beside an exact exchange's."""
    trainer = trainer_of(world, folder, dataclasses.replace(config, telemetry_every=1))
    exact = trainer_of(world, folder, dataclasses.replace(ATTENTION, hidden=config.hidden))
    outputs: list[torch.Tensor] = []
    for each in (trainer, exact):
        conv = each.model.get_submodule("convs.0")
        conv.register_forward_hook(lambda conv, _, out: outputs.append((out - conv.bias).detach()))
    found = []
    for epoch in range(EPOCHS):
        outputs.clear()
        exact.model.load_state_dict(trainer.model.state_dict())
        reported = trainer.train_epoch()["sampling/relative_error"]
        exact.training.begin(epoch)
        exact.model(exact.training.hops, exact.training.features)
        pair = torch.stack([(outputs[0] - outputs[1]).pow(2).sum(), outputs[1].pow(2).sum()])
        error, level = world.all_reduce(pair).tolist()
        found.append((reported, (error / level) ** 0.5))
    return found


@pytest.mark.multi
@pytest.mark.parametrize("hidden", [6, 16])  # projected before it is sent, and after
@pytest.mark.parametrize("options", VARIANTS[1::2], ids=lambda options: " ".join(map(str, options.items())))
def test_the_error_of_attention_is_that_of_its_results(
    options: dict[str, Any], hidden: int, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(ATTENTION, hidden=hidden, **options)
    for rank in run_ranks(attention_errors, 2, tmp_path, parts_folder("single", 2), config):
        for reported, expected in rank:
            assert reported == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert max(reported for reported, _ in rank) > 0.01


def test_what_there_was_nothing_of_is_absent() -> None:
    """Nothing drawn at rate 0: rows have no gap and no age. A model that sums by itself: no error."""
    probe = Probe(3, torch.ones(4, 2))
    assert probe.results(World.single()) == {}
    probe.saw_rows(torch.zeros(1, 2), torch.tensor([2]), torch.tensor([1]))
    assert probe.results(World.single()) == {"stale/relative_gap": 1.0, "stale/mean_slot_age_epochs": 2.0}
