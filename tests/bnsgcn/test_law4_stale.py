"""Law 4: stale values are exactly last epoch's, of the right peer, under last epoch's draw.

Integer-coded features and gradients say where a value comes from: every comparison is ==. With frozen weights
the pipeline becomes exact, logits after L epochs and gradients after 2 L, and not before.
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
from bnsgcn.exchange.mailbox import Smoother
from partition.errors import UserError
from partition.manifest import read_manifest
from tests.bnsgcn.by_hand import AverageByHand, drawn_entries, drawn_slots, original_ids, reader_of
from tests.bnsgcn.dense_reference import dense_adjacency
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import NODES, PartsFolder, small_graph
from tests.multiprocess import run_ranks

EPOCHS = 6
STALE = TrainConfig(
    layers=3, hidden=6, dropout=0.0, dtype="float64", prune=False, pipeline=True, seed=3, sampler="uniform"
)


def feature_code(epoch: int, node_ids: np.ndarray) -> np.ndarray:
    return 4096.0 * (epoch + 1) + node_ids


def gradient_code(epoch: int, reader: np.ndarray | int, node_ids: np.ndarray) -> np.ndarray:
    return 65536.0 * (epoch + 1) + 4096.0 * reader + node_ids


class ByHand:
    """One rank's lane of one layer, in plain numbers.

    A message of epoch e is taken in epoch e + delay; with a stale, exact first epoch, in epochs 0 and 1.
    """

    def __init__(self, part: Any, ids: np.ndarray, config: TrainConfig, layer: int) -> None:
        self._part, self._config, self._layer = part, config, layer
        self._ids, self._cache = ids, np.zeros(part.num_halo)
        decay = 1 - 1 / config.smooth_window
        self._features = AverageByHand(part.num_halo, decay if config.smooth_features else 0.0)
        self._gradients = AverageByHand(part.boundary_rows.size, decay if config.smooth_gradients else 0.0)
        self._first: tuple[np.ndarray, np.ndarray] | None = None

    def posted_in(self, epoch: int) -> int | None:
        """The epoch whose message is taken; None in an epoch that starts from zeros."""
        if not self._config.pipeline:
            return epoch
        if epoch > 0:
            return epoch - 1
        return 0 if self._config.first_epoch == "exact" else None

    def draw_epoch(self, epoch: int) -> int:
        """The epoch of the draw that the features taken in `epoch` came under."""
        source = self.posted_in(epoch)
        return epoch if source is None else source

    def features(self, epoch: int) -> np.ndarray:
        """The halo values that `epoch` computes with, in the order of their slots."""
        slots, source = self._slots(self.draw_epoch(epoch)), self.posted_in(epoch)
        values = np.zeros(slots.size)
        again = self._config.pipeline and epoch == 1 and self._config.first_epoch == "exact"
        if source is not None and not again:
            code = feature_code(source, self._ids[self._part.halo_ids[slots]])
            values = self._features.update(slots, code, source)
            self._cache[slots] = values
            self._first = self._first or (slots, values)
        elif again:
            assert self._first is not None
            slots, values = self._first
        return self._cache.copy() if self._config.halo_cache else values

    def gradient(self, epoch: int) -> np.ndarray:
        """What the peers' gradients add to each inner row's in `epoch`."""
        total, source = np.zeros(self._part.num_inner), self.posted_in(epoch)
        if source is None:
            return total
        entries = drawn_entries(self._part, self._config, self.draw_epoch(source), self._layer)
        rows = self._part.boundary_rows[entries]
        values = gradient_code(source, reader_of(self._part)[entries], self._part.node_ids[rows])
        again = self._config.pipeline and epoch == 1 and self._config.first_epoch == "exact"
        if again:
            values = self._gradients.read(entries)
        else:
            values = self._gradients.update(entries, values, source)
        np.add.at(total, rows, values)
        return total

    def _slots(self, epoch: int) -> np.ndarray:
        return drawn_slots(self._part, self._config, epoch, self._layer)


def lanes_in_codes(
    world: World, folder: Path, config: TrainConfig, expected: TrainConfig
) -> list[tuple[bool, bool]]:
    """For every epoch and layer: whether features and gradients are what `expected` says by hand."""
    trainer = trainer_of(world, folder, config)
    part, ids = trainer.part, original_ids(folder)
    by_hand = [ByHand(part, ids, expected, layer) for layer in range(config.layers)]
    found = []
    for epoch in range(EPOCHS):
        trainer.training.begin(epoch)
        for layer, hop in enumerate(trainer.training.hops):
            x = torch.from_numpy(feature_code(epoch, part.node_ids)).unsqueeze(1).to(world.device)
            x.requires_grad_()
            h, arriving = hop.post(x)
            arrived = arriving.wait()
            assert arrived is not None
            rows = arrived.rows.detach().cpu().numpy()[:, 0]
            right = np.array_equal(rows, by_hand[layer].features(epoch))
            slots = by_hand[layer]._slots(by_hand[layer].draw_epoch(epoch))
            if config.halo_cache:
                slots = np.arange(part.num_halo)
            code = gradient_code(epoch, world.rank, ids[part.halo_ids[slots]])
            if code.size != rows.size:
                return [(False, False)]
            codes = torch.from_numpy(code).to(world.device)
            ((arrived.rows[:, 0] * codes).sum() + 0 * h.sum()).backward()
            assert x.grad is not None
            found.append((right, np.array_equal(x.grad.cpu().numpy()[:, 0], by_hand[layer].gradient(epoch))))
    return found


VARIANTS = [
    {},
    {"first_epoch": "zeros"},
    {"sampling_rate": 0.4},
    {"sampling_rate": 0.4, "first_epoch": "zeros", "draw_per_layer": True},
    {"pipeline": False, "sampling_rate": 0.4},
    {"smooth_features": True, "smooth_gradients": True},
    {"smooth_features": True, "smooth_gradients": True, "sampling_rate": 0.4},
    {"smooth_features": True, "sampling_rate": 0.4, "first_epoch": "zeros"},
    {"smooth_gradients": True, "sampling_rate": 0.4, "pipeline": False},
    {"halo_cache": True, "sampling_rate": 0.4},
    {"halo_cache": True, "sampling_rate": 0.4, "first_epoch": "zeros"},
    {"halo_cache": True, "sampling_rate": 0.4, "pipeline": False},
    {"halo_cache": True, "sampling_rate": 0.4, "smooth_features": True, "smooth_gradients": True},
]


def variant(options: dict[str, Any]) -> TrainConfig:
    return dataclasses.replace(STALE, smooth_window=2.0, **options)


@pytest.mark.multi
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: " ".join(map(str, options.items())))
def test_every_value_is_the_right_epochs(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = variant(options)
    for found in run_ranks(lanes_in_codes, 3, tmp_path, parts_folder("single", 3), config, config):
        assert found == [(True, True)] * (EPOCHS * config.layers)


@pytest.mark.multi
def test_other_epochs_and_other_draws_are_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 3)
    exact, stale = variant({"pipeline": False}), variant({})
    for found in run_ranks(lanes_in_codes, 3, tmp_path, folder, exact, stale):
        assert found[:3] == [(True, True)] * 3  # the first epoch is exact
        assert found[3:] == [(False, False)] * (len(found) - 3)
    sampled, other = variant({"sampling_rate": 0.4}), variant({"sampling_rate": 0.4, "seed": 8})
    for found in run_ranks(lanes_in_codes, 3, tmp_path, folder, sampled, other):
        assert (True, True) not in found


def weighted_sums(world: World, folder: Path, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Sums over neighbours and gradients of what is summed, [epochs, N] each; NaN for nodes of others."""
    trainer = trainer_of(world, folder, config)
    ids = trainer.part.node_ids
    sums, gradients = (np.full((EPOCHS, NODES), np.nan) for _ in range(2))
    for epoch in range(EPOCHS):
        trainer.training.begin(epoch)
        hop = trainer.training.hops[0]
        x = torch.from_numpy(feature_code(epoch, ids)).unsqueeze(1).requires_grad_()
        total = hop.sum(*hop.post(x))
        total.backward(torch.from_numpy(gradient_code(epoch, 0, ids)).unsqueeze(1))
        assert x.grad is not None
        sums[epoch, ids] = total.detach().numpy()[:, 0]
        gradients[epoch, ids] = x.grad.numpy()[:, 0]
    return sums, gradients


@pytest.mark.multi
def test_edge_weights_weigh_the_rows_of_the_epoch_before(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """Arcs within a part weigh this epoch's values, arcs between parts those of the epoch before."""
    folder, nodes = parts_folder("oneway", 3), np.arange(NODES)
    config = dataclasses.replace(STALE, model="gcn", layers=1, self_loops=False)
    ranks = run_ranks(weighted_sums, 3, tmp_path, folder, config)
    found = [np.nanmax([rank[which] for rank in ranks], axis=0) for which in range(2)]
    owner = np.empty(NODES, int)
    owner[original_ids(folder)] = np.repeat(np.arange(3), read_manifest(folder).part_nodes)
    same = owner[:, None] == owner

    def by_hand(weighted: bool, behind: int) -> list[np.ndarray]:
        """The sums, and the gradients, if other parts' values are `behind` epochs old."""
        whole = dense_adjacency(small_graph("oneway"), weighted=weighted).numpy()
        now, late = range(EPOCHS), [max(epoch - behind, 0) for epoch in range(EPOCHS)]
        return [
            np.stack(
                [matrix * same @ code(a) + matrix * ~same @ code(b) for a, b in zip(now, late, strict=True)]
            )
            for matrix, code in (
                (whole, lambda epoch: feature_code(epoch, nodes)),
                (whole.T, lambda epoch: gradient_code(epoch, 0, nodes)),
            )
        ]

    for mine, right, exact, unweighted in zip(
        found, by_hand(True, 1), by_hand(True, 0), by_hand(False, 1), strict=True
    ):
        assert np.allclose(mine, right, rtol=1e-12)
        assert np.allclose(mine[0], exact[0], rtol=1e-12), "the first epoch is exact"
        assert not np.allclose(mine, exact, rtol=1e-6)
        assert not np.allclose(mine, unweighted, rtol=1e-2)


def run_frozen(
    world: World, folder: Path, config: TrainConfig, epochs: int
) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Logits of this rank and all gradients, of every epoch."""
    trainer = trainer_of(world, folder, config)
    logits: list[np.ndarray] = []
    trainer.model.register_forward_hook(lambda _, __, out: logits.append(out.detach().cpu().numpy().copy()))
    gradients = []
    for _ in range(epochs):
        trainer.train_epoch()
        gradients.append({n: p.grad.cpu().numpy().copy() for n, p in trainer.model.named_parameters()})  # type: ignore[union-attr]
    return list(zip(logits, gradients, strict=True))


def first_exact_epochs(runs: list[Any], exact: list[Any]) -> tuple[int, int]:
    """From which epoch on logits, and gradients, are exact on all ranks."""
    logits, gradients = 0, 0
    for run, reference in zip(runs, exact, strict=True):
        wanted, wanted_gradients = reference[-1]
        for epoch, (found, found_gradients) in enumerate(run):
            if np.abs(found - wanted).max() > 1e-12:
                logits = max(logits, epoch + 1)
            if any(np.abs(found_gradients[n] - wanted_gradients[n]).max() > 1e-12 for n in wanted_gradients):
                gradients = max(gradients, epoch + 1)
    return logits, gradients


@pytest.mark.multi
@pytest.mark.parametrize(
    ("model", "layers", "kind"),
    [
        *((model, layers, "single") for model in ("gcn", "sage", "gat") for layers in (2, 3)),
        *((model, 2, "weighted") for model in ("gcn", "sage")),
    ],
)
def test_with_frozen_weights_logits_are_exact_after_L_epochs_and_gradients_after_2L(
    model: Any, layers: int, kind: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    frozen = dataclasses.replace(
        STALE, layers=layers, model=model, heads=2, lr=1e-300, first_epoch="zeros", prune=True
    )
    folder, epochs = parts_folder(kind, 3), 2 * layers + 2
    exact = run_ranks(run_frozen, 3, tmp_path, folder, dataclasses.replace(frozen, pipeline=False), 1)
    logits, gradients = first_exact_epochs(run_ranks(run_frozen, 3, tmp_path, folder, frozen, epochs), exact)
    # Layer 0 multiplies before it sends (7 columns in, 6 out): its weight's gradient needs the last exchange.
    assert (logits, gradients) == (layers, 2 * layers)


def test_an_average_starts_at_the_first_value_and_counts_each_slot_apart() -> None:
    smoother, by_hand = Smoother(4, 0.75), AverageByHand(4, 0.75)
    generator = np.random.default_rng(0)
    seen = np.zeros(4, int)
    for epoch in range(12):
        slots = np.flatnonzero(generator.random(4) < 0.6)
        values = generator.standard_normal(slots.size)
        rows = torch.from_numpy(values).unsqueeze(1)
        found = smoother.update(rows, torch.from_numpy(slots), epoch).numpy()[:, 0]
        assert np.allclose(found, by_hand.update(slots, values, epoch), atol=1e-14)
        new = seen[slots] == 0
        assert np.allclose(found[new], values[new], atol=1e-14)
        seen[slots] += 1
    assert seen.min() > 3
    assert len(set(seen)) > 1


def test_an_average_that_starts_at_zero_would_be_noticed() -> None:
    uncorrected = Smoother(1, 0.75)
    zero, one = torch.tensor([0]), torch.ones(1, 1)
    uncorrected.load({"total": 0 * one, "weight": 4 * one[0], "seen": torch.zeros(1, dtype=torch.int32)})
    assert float(uncorrected.update(one, zero, 1)) == pytest.approx(0.25)
    assert float(Smoother(1, 0.75).update(one, zero, 1)) == 1


def test_an_average_reaches_back_as_far_at_any_rate() -> None:
    """A slot that is drawn every tenth epoch keeps no value for ten times as long as one drawn in each."""
    always, seldom, counted = (Smoother(1, 0.8) for _ in range(3))
    slot, found = torch.tensor([0]), []
    for epoch in range(101):
        rows = torch.full((1, 1), float(epoch < 50))
        last = [always.update(rows, slot, epoch)]
        if epoch % 10 == 0:
            last += [seldom.update(rows, slot, epoch), counted.update(rows, slot, epoch // 10)]
            found = [float(each) for each in last]
    assert max(found[:2]) < 1e-4  # 50 epochs after the last 1
    assert found[2] > 0.15  # what counts updates would


def test_averages_of_an_earlier_version_are_refused() -> None:
    with pytest.raises(UserError, match=r"earlier version.*--smooth-window.*new --run-dir") as failure:
        Smoother(1, 0.75).load({"average": torch.zeros(1, 1), "count": torch.ones(1)})
    assert "\n" not in str(failure.value)
