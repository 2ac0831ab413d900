"""Rows on the wire: every format comes back as close as it can, for any number of rows and columns."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.wire import Wire
from bnsgcn.kernels import select
from bnsgcn.plan.bytes import row_bytes
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

KERNELS = select("auto", torch.device("cpu"), torch.float32)
PORTABLE = select("torch", torch.device("cpu"), torch.float32)
FORMATS: Any = ["fp32", "bf16", "fp16", "int8", "int4"]
TOPS = {"int8": 127, "int4": 7}
RELATIVE = {"fp32": 0.0, "bf16": 2**-8, "fp16": 2**-11}
PAPERS_NODES, PAPERS_TRAINING_NODES = 111_059_956, 1_207_179
"""Of ogbn-papers100M: what the loss is divided by, at most and in truth."""


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 7, 32, 33])
@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("computed", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", FORMATS)
def test_rows_come_back(dtype: Any, computed: torch.dtype, rows: int, columns: int) -> None:
    wire, generator = Wire(dtype, KERNELS), torch.Generator().manual_seed(rows)
    x = torch.randn(9, columns, generator=generator, dtype=computed)
    index = torch.randint(0, 9, (rows,), generator=generator)
    packed = wire.pack(x, index, 5)
    room = wire.room(rows, columns, x)
    config = TrainConfig(dtype="float64" if computed == torch.float64 else "float32")
    assert (packed.dtype, packed.shape) == (room.dtype, room.shape)
    assert packed.is_contiguous()
    assert packed.numel() * packed.element_size() == rows * row_bytes(dtype, columns, config)
    back = wire.unpack(packed, computed, columns)
    assert (back.dtype, back.is_contiguous()) == (computed, True)
    if dtype in TOPS:
        step = x[index].abs().amax(1, keepdim=True) / TOPS[dtype]
        assert ((back - x[index]).abs() <= 1.0001 * step).all()
    else:
        assert torch.allclose(back, x[index], rtol=RELATIVE[dtype], atol=0)
    everything = wire.unpack(wire.pack(x, None, 5), computed, columns)
    assert everything.shape == x.shape
    assert torch.equal(everything[index], back) or dtype in TOPS  # rounded by their place


@pytest.mark.parametrize("computed", [torch.float32, torch.float64])
def test_fp16_has_neither_floor_nor_ceiling(computed: torch.dtype) -> None:
    """Each row has a scale of its own, down to the smallest ordinary number."""
    wire, generator = Wire("fp16", KERNELS), torch.Generator().manual_seed(0)
    top, bottom = math.log2(torch.finfo(computed).max) - 1, math.log2(torch.finfo(computed).tiny) + 16
    sizes = torch.logspace(bottom, top, 200, base=2, dtype=torch.float64)
    x = (torch.rand(200, 50, generator=generator, dtype=torch.float64) + 1) * 0.5 * sizes[:, None]
    x = x.to(computed) * torch.randint(0, 2, x.shape, generator=generator).mul(2).sub(1)
    assert torch.allclose(wire.unpack(wire.pack(x, None, 0), computed, 50), x, rtol=2**-11, atol=0)
    assert not torch.allclose(x.half().to(computed), x, rtol=0.5, atol=0)
    assert wire.unpack(wire.pack(torch.zeros(2, 3), None, 0), computed, 3).tolist() == [[0.0] * 3] * 2


def plain_pack(wire: Wire, x: torch.Tensor, index: torch.Tensor | None, _: int) -> torch.Tensor:
    """Breach: float16 as the numbers are."""
    return (x if index is None else x[index]).half()


def plain_unpack(wire: Wire, received: torch.Tensor, dtype: torch.dtype, _: int) -> torch.Tensor:
    return received.to(dtype)


def output_gradients(training_nodes: int) -> torch.Tensor:
    """Gradients of 47 logits' cross-entropy over so many nodes, from unsure to all but certain."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 47, generator=generator) * torch.logspace(-1, 1, 400)[:, None]
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)
    return (logits.softmax(1) - torch.zeros_like(logits).scatter(1, labels, 1)) / training_nodes


@pytest.mark.parametrize("nodes", [196_615, PAPERS_TRAINING_NODES, PAPERS_NODES])
@pytest.mark.parametrize(
    ("dtype", "error"), [("fp32", 0.0), ("bf16", 4e-3), ("fp16", 5e-4), ("int8", 3e-2), ("int4", 0.5)]
)
def test_gradients_of_large_graphs_keep_the_formats_precision(dtype: Any, error: float, nodes: int) -> None:
    gradients, wire = output_gradients(nodes), Wire(dtype, KERNELS)
    back = wire.unpack(wire.pack(gradients, None, 3), torch.float32, 47)
    assert float((back - gradients).norm()) <= error * float(gradients.norm())
    # Row by row too: the certain nodes' gradients are a thousandth of the others'.
    assert ((back - gradients).norm(dim=1) <= 4 * error * gradients.norm(dim=1)).all()
    if dtype not in TOPS:
        large = gradients.abs() > 1e-7 * gradients.abs().amax(1, keepdim=True)
        assert (back[large] != 0).all()


def test_a_plain_cast_to_fp16_would_lose_them() -> None:
    gradients = output_gradients(PAPERS_TRAINING_NODES)
    back = gradients.half().float()
    assert float(((back == 0) & (gradients != 0)).double().mean()) > 0.7
    assert float((back - gradients).norm()) > 0.02 * float(gradients.norm())


@pytest.mark.parametrize("kernels", [KERNELS, PORTABLE], ids=["auto", "torch"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FORMATS)
def test_what_is_not_finite_stays_so(dtype: Any, value: float, kernels: Any) -> None:
    x = torch.ones(3, 40)
    x[1, 7] = value
    wire = Wire(dtype, kernels)
    for index in (None, torch.arange(3)):
        back = wire.unpack(wire.pack(x, index, 0), torch.float32, 40)
        assert not back[1, 7].isfinite()
        assert back[::2].isfinite().all()


@pytest.mark.parametrize("dtype", TOPS)
def test_codes_depend_on_the_key_and_on_nothing_else(dtype: Any) -> None:
    wire, x = Wire(dtype, KERNELS), torch.linspace(-1, 1, 300).view(3, 100)
    assert torch.equal(wire.pack(x, None, 1), wire.pack(x, None, 1))
    assert not torch.equal(wire.pack(x, None, 1), wire.pack(x, None, 2))


def weight_gradients(world: World, folder: Path, config: TrainConfig, plain: bool) -> torch.Tensor:
    """All gradients of the first epoch, one after the other, of a loss divided by papers100M's count."""
    trainer = trainer_of(world, folder, config)
    trainer._target._total = PAPERS_TRAINING_NODES
    if plain:
        with mock.patch.multiple(Wire, pack=plain_pack, unpack=plain_unpack, room=plain_room):
            trainer.train_epoch()
    else:
        trainer.train_epoch()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def plain_room(wire: Wire, rows: int, features: int, like: torch.Tensor) -> torch.Tensor:
    return like.new_empty(rows, features, dtype=torch.float16)


@pytest.mark.multi
@pytest.mark.parametrize("model", ["sage", "gcn", "gat"])
def test_weights_learn_as_much_from_the_halo_of_a_large_graph(
    model: Any, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    exact = TrainConfig(layers=3, hidden=8, heads=2, dropout=0.3, model=model)
    folder = parts_folder("single", 3)

    def gradients(wire: Any, *, plain: bool = False) -> torch.Tensor:
        config = dataclasses.replace(exact, wire_dtype=wire)
        return run_ranks(weight_gradients, 3, tmp_path, folder, config, plain)[0]  # type: ignore[no-any-return]

    expected = gradients("fp32")

    def error(found: torch.Tensor) -> float:
        return float((found - expected).norm() / expected.norm())

    assert error(gradients("bf16")) < 8e-3
    assert error(gradients("fp16")) < 1e-3
    assert error(gradients("fp16", plain=True)) > 2e-2
