"""Rows in host memory multiply as dense ones do, piece by piece, on a stand-in that copies late."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.kernels import Mask, host_rows, select
from bnsgcn.kernels.host_rows import HostRows
from bnsgcn.plan.bytes import RunBytes
from partition.store import open_part
from tests.bnsgcn.device.late_streams import LateMark, LateStreams
from tests.bnsgcn.runs import dense_run, largest_difference, one_run, record, run_on, trainer_of
from tests.bnsgcn.small_graphs import PartsFolder, small_graph
from tests.multiprocess import run_ranks

ROWS, COLUMNS, OUT = 23, 5, 3
BASE = TrainConfig(layers=2, hidden=12, heads=2, dropout=0.4, lr=0.004, dtype="float64", features="host")


def products(rows: int, p: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(through pieces of four rows, dense) of x W^T, of what is added to, and of g^T x."""
    generator = torch.Generator().manual_seed(rows)
    x, weight, g = (
        torch.randn(shape, generator=generator) for shape in ((rows, COLUMNS), (OUT, COLUMNS), (rows, OUT))
    )
    kernels, mask = select("torch"), Mask(torch.arange(rows) + 100, key=7, p=p)
    far = HostRows(x.clone(), torch.device("cpu"), LateStreams(), kernels).dropped(mask)
    seen = kernels.dropout(x, mask)
    with mock.patch.object(host_rows, "PIECE_BYTES", 4 * 4 * COLUMNS):
        found = far.times(weight), far.times(weight, g.clone()), far.weight_gradient(g)
    return list(zip(found, (seen @ weight.t(), g + seen @ weight.t(), g.t() @ seen), strict=True))


@pytest.mark.parametrize("rows", [0, 1, 4, ROWS])
@pytest.mark.parametrize("p", [0.0, 0.6])
def test_products_are_those_of_dense_rows(rows: int, p: float) -> None:
    for found, expected in products(rows, p):
        torch.testing.assert_close(found, expected)


def test_a_piece_that_is_not_waited_for_is_noticed() -> None:
    with mock.patch.object(LateMark, "hold"):
        assert not all(torch.allclose(found, expected) for found, expected in products(ROWS, 0.0))


@pytest.mark.multi
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "gcn", "precompute": True},
        {"model": "sage", "precompute": True, "inductive": True},
        {"model": "gat"},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "sage",
)
def test_training_equals_a_dense_matrix_and_sends_what_is_planned(
    options: dict[str, object], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **options), parts_folder("single", 2)  # type: ignore[arg-type]
    run = one_run(run_ranks(record, 2, tmp_path, folder, config, 5, device="late"))
    near = dataclasses.replace(config, features="device")
    assert largest_difference(run, dense_run(small_graph("single"), folder, near, 5)) < 1e-10
    parts = [open_part(folder, index) for index in range(2)]
    planned = RunBytes(parts, dataclasses.replace(config, device="cuda")).epoch(2).per_rank()
    assert run_ranks(sent_in_an_epoch, 2, tmp_path, folder, config, device="late") == planned


def sent_in_an_epoch(world: World, folder: Path, config: TrainConfig) -> tuple[int, int]:
    measured = trainer_of(world, folder, config).train_epoch()
    return int(measured["comm/sent_feature_bytes"]), int(measured["comm/sent_gradient_bytes"])


def test_on_cpu_nothing_changes_and_that_is_said(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 1)
    near = dataclasses.replace(BASE, features="device")
    assert run_on(folder, 1, BASE, tmp_path, 2).digests == run_on(folder, 1, near, tmp_path, 2).digests
    notes = trainer_of(World.single(), folder, BASE)._notes
    assert "--features host does nothing on CPU: features are in host memory anyway" in notes
