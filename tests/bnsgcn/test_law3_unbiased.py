"""Law 3: sampling is unbiased, shown by enumerating every draw of a tiny boundary, end to end.

The enumerated draws go through the real lists, scales, compacted blocks and messages of two ranks; only the
generator is replaced. Besides: the sizes of draws, that both ends derive the same one, that no ids travel.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange import sampling
from bnsgcn.exchange.sampling import (
    ListDraw,
    draw_size,
    draw_systematic,
    draw_uniform,
    inclusion_probabilities,
)
from bnsgcn.exchange.settings import Setting
from bnsgcn.exchange.wire import Wire
from bnsgcn.kernels import random_bits, select
from bnsgcn.pending import Pending
from partition.build import partition_graph
from partition.graph import Graph
from tests.bnsgcn.by_hand import drawn_slots, original_ids
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

BASE = TrainConfig(layers=2, hidden=4, dropout=0.0, dtype="float64", prune=False, sampler="uniform")
LIST = 5
"""Boundary rows of either part of the tiny graph."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts of 8 nodes, of which 5 each have neighbours on the other side, some more than others."""
    return tiny_parts(tmp_path_factory.mktemp("tiny") / "parts", weighted=False)


@pytest.fixture(scope="module")
def tiny_weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with edge weights, one of them 0."""
    return tiny_parts(tmp_path_factory.mktemp("weighted") / "parts", weighted=True)


def tiny_parts(folder: Path, *, weighted: bool) -> Path:
    rng = np.random.default_rng(0)
    part_of = np.repeat([0, 1], 8).astype(np.int32)
    inside = [(a, a + 1) for a in range(7)] + [(a, a + 1) for a in range(8, 15)]
    across = [(a, 8 + a) for a in range(LIST)] + [(0, 9), (0, 10), (0, 11), (1, 8), (2, 8)]
    graph = Graph.from_arrays(
        np.array(inside + across).T,
        edge_weight=np.r_[np.linspace(0.1, 4, 23), 0] if weighted else None,
        features=rng.standard_normal((16, 6)).astype(np.float32),
        labels=rng.integers(0, 2, 16),
        split=np.tile(np.array([1, 1, 2, 3], np.uint8), 4),
    )
    with mock.patch("partition.build.assign", return_value=part_of):
        partition_graph(graph, parts=2, out=folder)
    return folder


def aggregate(trainer: Any, epoch: int) -> torch.Tensor:
    """Sum over the neighbours of every row of a fixed matrix, through this epoch's draw."""
    trainer.training.begin(epoch)
    hop = trainer.training.hops[0]
    generator = torch.Generator().manual_seed(trainer.world.rank)
    x = torch.randn(len(hop.src), 3, generator=generator, dtype=torch.float64)
    h, arriving = hop.post(x.to(trainer.world.device))
    return hop.sum(h, arriving)


def uniform_draws(rows: int, rate: float) -> list[tuple[float, ListDraw]]:
    """(probability, draw) of every possible uniform draw."""
    k = draw_size(rows, rate)
    subsets = list(itertools.combinations(range(rows), k))
    return [(1 / len(subsets), ListDraw(np.array(s, np.int64), np.full(k, rows / k))) for s in subsets]


def systematic_draws(probability: np.ndarray) -> list[tuple[float, ListDraw]]:
    """(probability, draw) of every possible systematic draw: one for each interval of the offset."""
    edges = np.unique(np.concatenate([[0.0, 1.0], np.cumsum(probability) % 1]))
    middles, lengths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    return [(d, sampling.systematic(probability, m)) for d, m in zip(lengths, middles, strict=True)]


def mean_over_draws(world: World, folder: Path, config: TrainConfig, biased: bool) -> tuple[float, int]:
    """The largest difference between the mean over all draws and the exact aggregate, and their number."""
    exact = aggregate(trainer_of(world, folder, BASE), 0)
    trainer = trainer_of(world, folder, config)
    uniform = config.policy == "fixed" and config.sampler == "uniform"
    if config.policy == "auto":
        put_rates(trainer)
    mean, epoch, total = torch.zeros_like(exact), 0, 0.0
    current: dict[str, Any] = {}

    def replaced(*args: Any, **names: Any) -> ListDraw:
        if uniform:
            draws = uniform_draws(names["rows"], config.sampling_rate)
        else:
            draws = systematic_draws(args[0])
        # Sender 0's and sender 1's draws need not be as many: each reader sees one of them only.
        current["number"] = max(current.get("number", 0), len(draws))
        chance, draw = draws[current["index"] % len(draws)]
        if names["reader"] == world.rank:
            current["chance"] = chance if current["index"] < len(draws) else 0.0
        return dataclasses.replace(draw, scale=np.ones_like(draw.scale)) if biased else draw

    name = "draw_uniform" if uniform else "draw_systematic"
    with mock.patch.object(sampling, name, replaced):
        while epoch == 0 or epoch < current["number"]:
            current["index"] = epoch
            sampled = aggregate(trainer, epoch)
            number = torch.tensor([current["number"]], device=world.device)
            current["number"] = int(world.all_reduce(number, "max"))
            mean += current["chance"] * sampled
            total += current["chance"]
            epoch += 1
    assert total == pytest.approx(1, abs=1e-12)
    return float((mean - exact).abs().max()), epoch


@pytest.mark.multi
@pytest.mark.parametrize("model", ["sage", "gcn"])
@pytest.mark.parametrize("sampler", ["uniform", "importance"])
@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6])
def test_the_mean_over_all_draws_is_the_full_aggregate(
    rate: float, sampler: Any, model: Any, tiny: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, sampling_rate=rate, sampler=sampler, model=model)
    check_the_mean(tiny, config, tmp_path)


@pytest.mark.multi
@pytest.mark.parametrize("model", ["sage", "gcn"])
@pytest.mark.parametrize("sampler", ["uniform", "importance"])
def test_the_mean_is_the_full_weighted_aggregate(
    sampler: Any, model: Any, tiny_weighted: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, sampling_rate=0.4, sampler=sampler, model=model)
    check_the_mean(tiny_weighted, config, tmp_path)


def check_the_mean(folder: Path, config: TrainConfig, tmp_path: Path) -> None:
    rate, sampler = config.sampling_rate, config.sampler
    for difference, draws in run_ranks(mean_over_draws, 2, tmp_path, folder, config, False):
        assert difference < 1e-12
        assert draws == math.comb(LIST, round(rate * LIST)) if sampler == "uniform" else draws > 1


def put_rates(trainer: Any) -> None:
    """Rates such as auto sets them: others in every layer and for every peer."""
    settings, layers = trainer.training.policy.settings, trainer.training.draws.layers
    rates = 0.2 + 0.15 * np.arange(4 * len(layers)).reshape(len(layers), 2, 2)
    settings.put(0, Setting(layers=layers, rates=rates, wires=("fp32",) * len(layers)))


@pytest.mark.multi
@pytest.mark.parametrize("model", ["sage", "gcn"])
def test_the_mean_under_rates_that_auto_sets_is_the_full_aggregate(
    model: Any, tiny: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, policy="auto", sampler="importance", model=model)
    for difference, draws in run_ranks(mean_over_draws, 2, tmp_path, tiny, config, False):
        assert difference < 1e-12
        assert draws > 1
    assert min(each for each, _ in run_ranks(mean_over_draws, 2, tmp_path, tiny, config, True)) > 0.1


@pytest.mark.multi
@pytest.mark.parametrize("sampler", ["uniform", "importance"])
def test_draws_that_are_not_scaled_are_noticed(sampler: Any, tiny: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, sampling_rate=0.4, sampler=sampler)
    for difference, _ in run_ranks(mean_over_draws, 2, tmp_path, tiny, config, True):
        assert difference > 0.1


def test_every_subset_is_drawn_equally_often() -> None:
    epochs, subsets = 4000, math.comb(5, 2)
    counts = Counter(
        tuple(draw_uniform(seed=1, epoch=epoch, sender=0, reader=1, rows=5, rate=0.4).chosen)
        for epoch in range(epochs)
    )
    assert len(counts) == subsets
    expected = epochs / subsets
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 27.9  # 99.9 % of 9 degrees of freedom


def test_the_offset_of_a_systematic_draw_is_uniform() -> None:
    probability = np.array([0.3, 0.7, 0.25, 0.75])
    epochs = 4000
    counts = np.zeros(4)
    for epoch in range(epochs):
        counts[draw_systematic(probability, seed=1, epoch=epoch, sender=0, reader=1).chosen] += 1
    deviation = np.sqrt(epochs * probability * (1 - probability))
    assert (np.abs(counts - epochs * probability) < 4 * deviation).all()


@pytest.mark.parametrize(
    ("rows", "rate", "k"),
    [(0, 0.5, 0), (7, 0.0, 0), (7, 1.0, 7), (7, 0.01, 1), (1, 0.001, 1), (10, 0.26, 3), (10, 0.24, 2)],
)
def test_draw_sizes(rows: int, rate: float, k: int) -> None:
    assert draw_size(rows, rate) == k
    drawn = draw_uniform(seed=0, epoch=0, sender=0, reader=1, rows=rows, rate=rate)
    assert drawn.chosen.size == drawn.scale.size == k
    assert (np.diff(drawn.chosen) > 0).all()
    probability = inclusion_probabilities(np.arange(1.0, rows + 1), rate)
    assert probability.sum() == pytest.approx(k)
    if rows:
        assert draw_systematic(probability, seed=0, epoch=0, sender=0, reader=1).chosen.size == k


@pytest.mark.parametrize(
    "weight",
    [np.ones(9), np.r_[100.0, np.ones(8)], np.r_[np.full(4, 50.0), np.ones(5)], np.geomspace(1, 1e-6, 9)],
    ids=["equal", "one large", "four large", "steep"],
)
def test_inclusion_probabilities_are_proportional_and_capped(weight: np.ndarray) -> None:
    probability = inclusion_probabilities(weight, 1 / 3)
    assert probability.sum() == pytest.approx(3)
    assert (probability > 0).all()
    assert (probability <= 1).all()
    ratio = (probability / weight)[probability < 1 - 1e-12]
    assert np.allclose(ratio, ratio[:1])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", ["gcn", "sage"])
def test_a_slot_weighs_what_its_column_does(model: Any, weighted: bool) -> None:
    """The norm of each column of the reader's matrix, degrees of the whole graph in it."""
    rng = np.random.default_rng(0)
    arcs = (rng.random((7, 5)) < 0.5).astype(np.float32)
    arcs *= rng.random((7, 5), np.float32) if weighted else 1
    in_degree, out_degree = rng.integers(1, 9, 7), rng.integers(1, 9, 5)
    scale = 1 / np.sqrt(np.outer(in_degree, out_degree)) if model == "gcn" else 1 / in_degree[:, None]
    rows, slots = np.nonzero(arcs)
    weights = arcs[rows, slots] if weighted else None
    found = sampling.slot_importance(model, slots, in_degree[rows], out_degree, weights)
    assert np.allclose(found, np.linalg.norm(arcs * scale, axis=0), rtol=1e-14)


def test_rows_of_weight_0_are_drawn_now_and_then() -> None:
    probability = inclusion_probabilities(np.array([0.0, 0, 3, 5, 1, 0]), 0.5)
    assert (probability > 0).all()
    assert probability.sum() == pytest.approx(3)
    nothing = inclusion_probabilities(np.zeros(6), 0.5)
    assert np.allclose(nothing, 0.5)


def test_draws_depend_on_every_argument() -> None:
    base = {"seed": 1, "epoch": 2, "sender": 0, "reader": 1, "layer": 0}
    first = tuple(draw_uniform(rows=40, rate=0.5, **base).chosen)
    assert first == tuple(draw_uniform(rows=40, rate=0.5, **base).chosen)
    swapped = base | {"sender": 1, "reader": 0}
    others = [base | {name: base[name] + 1} for name in base] + [swapped]
    assert first not in {tuple(draw_uniform(rows=40, rate=0.5, **other).chosen) for other in others}


class Overheard(World):
    """A world that remembers what was sent."""

    sent: list[torch.Tensor]

    def all_to_all(self, received: torch.Tensor, sent: torch.Tensor, *splits: Any) -> Pending:
        self.sent.append(sent)
        return super().all_to_all(received, sent, *splits)


def received_ids(world: World, folder: Path, config: TrainConfig) -> tuple[bool, list[int], bool]:
    """Whether halo rows carry their slots' ids, in each layer; how many; whether only numbers travel."""
    heard = Overheard(**{field.name: getattr(world, field.name) for field in dataclasses.fields(world)})
    object.__setattr__(heard, "sent", [])
    trainer = trainer_of(heard, folder, config)
    heard.sent.clear()
    right, sizes = True, []
    for epoch in range(3):
        trainer.training.begin(epoch)
        for hop in trainer.training.hops:
            x = hop.src.node_ids.double().unsqueeze(1).requires_grad_()
            h, arriving = hop.post(x)
            arrived = arriving.wait()
            assert arrived is not None
            (arrived.rows.sum() + h.sum()).backward()
            slots = drawn_slots(trainer.part, config, epoch, hop.index)
            ids = original_ids(folder)[trainer.part.halo_ids[slots]]
            right &= np.array_equal(arrived.rows.detach().numpy()[:, 0], ids)
            sizes.append(len(ids))
    return right, sizes, all(tensor.is_floating_point() and tensor.shape[1] == 1 for tensor in heard.sent)


@pytest.mark.multi
@pytest.mark.parametrize("per_layer", [False, True])
def test_both_ends_derive_the_same_draw_and_no_ids_travel(
    per_layer: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, sampling_rate=0.3, draw_per_layer=per_layer, seed=4)
    for right, sizes, only_numbers in run_ranks(received_ids, 3, tmp_path, parts_folder("single", 3), config):
        assert right
        assert only_numbers
        assert min(sizes) > 0


def mean_of_rounded(keys: int, pack: Any, top: int) -> tuple[float, float]:
    """The largest |mean - x| over the bound of its standard deviation; the largest |rounded - x| / step."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 40, generator=generator) * torch.tensor([1e-3, 0.1, 1, 10, 1e3, 1e6]).unsqueeze(1)
    x[2] = 0
    step = (x.abs().amax(1, keepdim=True) / top).clamp(min=1e-30)
    total, worst = torch.zeros_like(x, dtype=torch.float64), 0.0
    for index in range(keys):
        rounded = pack(x, random_bits.key(0, index, 0, random_bits.Stream.FEATURE_ROUNDING))
        total += rounded
        worst = max(worst, float(((rounded - x) / step).abs().max()))
    deviation = step * 0.5 / math.sqrt(keys)
    return float(((total / keys - x) / deviation).abs().max()), worst


@pytest.mark.parametrize(("dtype", "top"), [("int8", 127), ("int4", 7)])
def test_codes_are_unbiased_and_never_off_by_more_than_a_step(dtype: Any, top: int) -> None:
    wire = Wire(dtype, select("auto", torch.device("cpu"), torch.float32))
    deviations, worst = mean_of_rounded(
        2000, lambda x, key: wire.unpack(wire.pack(x, None, key), x.dtype, x.shape[1]), top
    )
    assert deviations < 5
    assert worst < 1.001


@pytest.mark.parametrize("top", [127, 7])
def test_rounding_to_the_nearest_is_noticed(top: int) -> None:
    def nearest(x: torch.Tensor, _: int) -> torch.Tensor:
        step = (x.abs().amax(1, keepdim=True) / top).clamp(min=1e-30)
        return (x / step).round() * step

    assert mean_of_rounded(2000, nearest, top)[0] > 20
