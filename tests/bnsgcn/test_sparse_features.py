"""Sparse features train, evaluate and predict as the same features stored dense do, in float64 to 1e-10."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.kernels import Mask, select
from bnsgcn.kernels.sparse_rows import SparseRows, joined_columns, sparse_rows
from bnsgcn.nn.models import build_model
from bnsgcn.plan.bytes import RunBytes
from bnsgcn.plan.costs import plan
from bnsgcn.plan.machine import Machine
from bnsgcn.plan.memory import density_of, peak_bytes
from bnsgcn.run import least_bytes_of
from bnsgcn.train import sparse_input
from bnsgcn.train.trainer import Trainer
from partition.store import CsrFeatures, open_part
from tests.bnsgcn.runs import Recorded, dense_run, largest_difference, record, run_on, trainer_of
from tests.bnsgcn.small_graphs import SPARSE_FEATURES, PartsFolder, small_graph
from tests.multiprocess import run_ranks

TOLERANCE = 1e-10
KERNELS = select("auto")
BASE = TrainConfig(layers=2, hidden=6, heads=2, dropout=0.4, lr=0.004, dtype="float64")
STEPS = 4
CASES: list[dict[str, object]] = [
    {"model": "gcn"},
    {"model": "gcn", "dropout": 0.0, "norm": "none", "inductive": True},
    {"model": "gcn", "precompute": True},
    {"model": "sage"},
    {"model": "sage", "prune": False, "norm": "batch"},
    {"model": "sage", "precompute": True, "inductive": True},
    {"model": "sage", "precompute": True, "dropout": 0.0, "linear_layers": 1},
    {"model": "gat"},
    {"model": "gat", "dropout": 0.0, "layers": 1},
    {"model": "sage", "hidden": 200},
]


def configs() -> list[TrainConfig]:
    return [dataclasses.replace(BASE, **options) for options in CASES]  # type: ignore[arg-type]


def record_all(world: World, folder: Path) -> list[Recorded]:
    return [record(world, folder, config, STEPS) for config in configs()]


@pytest.mark.multi
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_sparse_features_train_as_dense_ones(parts: int, parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, filled = parts_folder("sparse", parts), parts_folder("filled", parts)
    assert isinstance(open_part(folder, 0).features, CsrFeatures)
    if parts == 1:
        ranks = [record_all(World.single(), folder)]
    else:
        ranks = run_ranks(record_all, parts, tmp_path, folder, timeout_s=120)
    for place, config in enumerate(configs()):
        for rank in ranks:
            rank_run = rank[place]
            assert rank_run.digests == ranks[0][place].digests
            expected = dense_run(small_graph("filled"), filled, config, STEPS)
            seen = ~np.isnan(rank_run.logits)
            expected.logits, rank_run.logits = expected.logits[seen], rank_run.logits[seen]
            assert largest_difference(rank_run, expected) < TOLERANCE, CASES[place]


def test_the_comparison_notices_a_mask_of_other_columns(parts_folder: PartsFolder) -> None:
    kept_entries = Mask.kept_entries
    with mock.patch.object(Mask, "kept_entries", lambda mask, rows, cols: kept_entries(mask, rows, cols + 1)):
        run = record(World.single(), parts_folder("sparse", 1), BASE, STEPS)
    expected = dense_run(small_graph("filled"), parts_folder("filled", 1), BASE, STEPS)
    assert largest_difference(run, expected) > 1e-4


@pytest.mark.multi
@pytest.mark.parametrize(
    "options",
    [
        {"sampling_rate": 0.4, "pipeline": True},
        {"sampling_rate": 0.3, "sampler": "importance", "model": "gat"},
    ],
    ids=str,
)
def test_sampled_and_late_too(options: dict[str, object], parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, **options)  # type: ignore[arg-type]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run = run_on(parts_folder("sparse", 2), 2, config, tmp_path / "a", STEPS)
    assert (
        largest_difference(run, run_on(parts_folder("filled", 2), 2, config, tmp_path / "b", STEPS)) < 1e-10
    )


@pytest.mark.parametrize("options", [{"model": "gcn"}, {"model": "sage", "precompute": True}], ids=str)
def test_beside_edge_weights(options: dict[str, object], parts_folder: PartsFolder) -> None:
    config = dataclasses.replace(BASE, **options)  # type: ignore[arg-type]
    folder = parts_folder("sparse weighted", 1)
    run = record(World.single(), folder, config, STEPS)
    graph = dataclasses.replace(small_graph("sparse weighted"), features=small_graph("filled").features)
    assert largest_difference(run, dense_run(graph, folder, config, STEPS)) < TOLERANCE


def test_a_plan_knows_what_is_set(parts_folder: PartsFolder) -> None:
    """What is kept of the features is in proportion to what is set of them; bytes as `inspect` says them."""
    rates = Machine(sum_bytes_per_s=1e10, products_per_s=5e10, pass_bytes_per_s=2e9)
    for precompute in (False, True):
        config = dataclasses.replace(BASE, precompute=precompute)
        sparse, filled = (plan(parts_folder(kind, 2), config, rates) for kind in ("sparse", "filled"))
        assert [rank.peak_bytes for rank in sparse.ranks] == peak_bytes(parts_folder("sparse", 2), config)
        for mine, theirs in zip(sparse.ranks, filled.ranks, strict=True):
            assert 0 < mine.memory_bytes["features"] < theirs.memory_bytes["features"]
            assert mine.compute_s <= theirs.compute_s
    part = open_part(parts_folder("sparse", 2), 0)
    assert isinstance(part.features, CsrFeatures)
    entries, rows = part.features.values.size, part.num_inner
    assert density_of(part) == entries / (rows * SPARSE_FEATURES)
    trainer = trainer_of(World.single(), parts_folder("sparse", 1), dataclasses.replace(BASE, prune=False))
    found = trainer.training.features
    assert isinstance(found, SparseRows)
    (csr, order), values = found.places.transposed, found.values
    kept = values.nbytes + order.nbytes + csr.indices.nbytes + found.places.csr.indices.nbytes
    assert least_bytes_of(trainer, 0)["features"] == kept


class OwnModel(torch.nn.Module):
    """A model that says nothing of sparse rows."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hops: object, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(x, torch.Tensor)
        return self.inner(hops, x)


def test_a_model_of_ones_own_is_given_dense_rows(parts_folder: PartsFolder) -> None:
    losses = []
    for kind in ("sparse", "filled"):
        part = open_part(parts_folder(kind, 1), 0)
        trainer = Trainer(World.single(), part, OwnModel(build_model(part.manifest, BASE)), BASE)
        losses.append(trainer.train_epoch()["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("below", [0.0, 1.0])
def test_an_aggregate_is_dense_where_sparse_does_not_pay(
    below: float, parts_folder: PartsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_input, "SPARSE_BELOW", below)
    monkeypatch.setattr(sparse_input, "_BLOCK_ENTRIES", 1)
    config = dataclasses.replace(BASE, precompute=True)
    trainer = trainer_of(World.single(), parts_folder("sparse", 1), config)
    aggregate = trainer.training.hops[0].precomputed
    assert isinstance(aggregate, SparseRows) == (below == 1.0)
    said = [note for note in trainer._notes if "aggregate" in note]
    assert len(said) == 1
    assert ("stays sparse" in said[0]) == (below == 1.0)
    filled = trainer_of(World.single(), parts_folder("filled", 1), config).training.hops[0].precomputed
    assert isinstance(filled, torch.Tensor)
    assert torch.equal(aggregate.dense() if isinstance(aggregate, SparseRows) else aggregate, filled)


def sent_bytes(world: World, folder: Path) -> list[list[tuple[int, int]]]:
    found = []
    for config in configs():
        trainer = trainer_of(world, folder, config)
        epochs = [trainer.train_epoch() for _ in range(2)]
        names = "comm/sent_feature_bytes", "comm/sent_gradient_bytes"
        found.append([(int(epoch[names[0]]), int(epoch[names[1]])) for epoch in epochs])
    return found


@pytest.mark.multi
def test_the_planner_counts_every_byte(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("sparse", 3)
    ranks = run_ranks(sent_bytes, 3, tmp_path, folder, timeout_s=120)
    parts = [open_part(folder, part) for part in range(3)]
    for place, config in enumerate(configs()):
        counted = [RunBytes(parts, config).epoch(epoch).per_rank() or [(0, 0)] * 3 for epoch in range(2)]
        assert [list(rank) for rank in zip(*counted, strict=True)] == [rank[place] for rank in ranks], config


# ---- the rows themselves ----


def some_rows(seed: int = 0, shape: tuple[int, int] = (90, 70)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(shape, generator=generator, dtype=torch.float64)
    return dense * (torch.rand(shape, generator=generator) < 0.1)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kernel", ["torch", "auto"])
def test_dropout_is_that_of_dense_rows_to_the_bit(p: float, kernel: str) -> None:
    dense = some_rows()
    mask = Mask(torch.arange(90) * 7919, key=-12345, p=p)
    expected = select(kernel, torch.device("cpu"), torch.float64).dropout(dense, mask)
    assert torch.equal(sparse_rows(dense, KERNELS).dropped(mask).dense(), expected)


def test_entries_are_masked_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, rows = Mask(torch.arange(90), key=5, p=0.5), sparse_rows(some_rows(), KERNELS)
    whole = rows.dropped(mask).values
    monkeypatch.setattr("bnsgcn.kernels.random_bits._ENTRIES_AT_ONCE", 7)
    assert torch.equal(rows.dropped(mask).values, whole)
    assert sparse_rows(torch.zeros(4, 3), KERNELS).dropped(Mask(torch.arange(4), 5, 0.5)).num_set == 0


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kernel", ["torch", "auto"])
def test_products_and_their_gradients(kernel: str, dtype: torch.dtype, atol: float) -> None:
    shapes = (90, 70), (21, 70), (90, 21)
    dense, weight, gradient = (some_rows(seed, shape).to(dtype) for seed, shape in enumerate(shapes))
    rows = sparse_rows(dense, select(kernel, torch.device("cpu"), dtype))
    torch.testing.assert_close(rows.times(weight), dense @ weight.t(), rtol=0, atol=atol)
    added = rows.times(weight, gradient.clone())
    torch.testing.assert_close(added, gradient + dense @ weight.t(), rtol=0, atol=atol)
    torch.testing.assert_close(rows.weight_gradient(gradient), gradient.t() @ dense, rtol=0, atol=atol)
    nothing = sparse_rows(torch.zeros(4, 3), KERNELS)
    assert torch.equal(nothing.times(torch.ones(2, 3)), torch.zeros(4, 2))
    assert torch.equal(nothing.weight_gradient(torch.ones(4, 2)), torch.zeros(2, 3))


def test_blocks_of_columns_are_joined_as_they_stood() -> None:
    dense = some_rows()
    rows = sparse_rows(dense, KERNELS)
    blocks = [
        sparse_rows(rows.dense_columns(first, min(first + 16, 70)), KERNELS) for first in range(0, 70, 16)
    ]
    joined = joined_columns(blocks)
    assert torch.equal(joined.dense(), dense)
    assert torch.equal(joined.places.csr.indices, rows.places.csr.indices)
