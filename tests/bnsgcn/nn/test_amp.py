"""--amp bf16: factors of products are bf16, everything that is kept, summed or reduced stays fp32."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.kernels import Mask, random_bits, select
from bnsgcn.nn import products
from bnsgcn.nn.products import Drop, Term, sum_of_products
from partition.build import partition_graph
from tests.bnsgcn.runs import largest_difference, record, run_on, trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

HALF_STEP = 2.0**-9
"""Largest relative error of rounding to bf16 (8 significant bits)."""
CONFIG = TrainConfig(layers=3, hidden=64, heads=2, dropout=0.3, lr=0.01)
BF16 = dataclasses.replace(CONFIG, amp="bf16")


def terms(rows: int, mask: bool, backend: str) -> list[Term]:
    """Two products of different widths, with fp32 leaves."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for copy, width in enumerate((96, 33)):
        x = torch.randn(rows, width, generator=generator).requires_grad_()
        weight = torch.randn(24, width, generator=generator).requires_grad_()
        key = random_bits.key(0, 1, copy, random_bits.Stream.DROPOUT)
        node_ids = torch.arange(rows) * 7
        drop = Drop(select(backend), Mask(node_ids, key, 0.4)) if mask else None
        made.append(Term(x, weight, drop))
    return made


def rounded(values: torch.Tensor) -> torch.Tensor:
    """The nearest bf16 values, as doubles."""
    return values.detach().to(torch.bfloat16).double()


@pytest.mark.parametrize("on_the_way", [True, False])
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("mask", [False, True])
def test_results_and_gradients_are_products_of_rounded_factors(
    mask: bool, backend: str, on_the_way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 where the product rounds its factors; otherwise each piece is rounded once more."""
    if on_the_way and not products._rounds_factors():
        pytest.skip("oneDNN does not round the factors of float32 matrices here")
    monkeypatch.setattr(products, "_rounds_factors", lambda: on_the_way)
    limit = 1e-6 if on_the_way else 2 * HALF_STEP
    rows = 12_000  # more than one piece
    chosen = terms(rows, mask, backend)
    bias = torch.randn(24, generator=torch.Generator().manual_seed(2)).requires_grad_()
    out = sum_of_products(chosen, bias, precision=torch.bfloat16)
    g = torch.randn(rows, 24, generator=torch.Generator().manual_seed(3))
    out.backward(g)
    assert out.dtype == torch.float32
    expected, size = bias.detach().double(), bias.detach().double().abs()
    for term in chosen:
        x = term.x.detach()
        keep = torch.ones_like(x)
        if term.drop is not None:
            keep = term.drop(keep, slice(None))
            assert 0.3 < float((keep == 0).float().mean()) < 0.5
        dropped = rounded(x * keep)
        expected = expected + dropped @ rounded(term.weight).T
        size = size + dropped.abs() @ rounded(term.weight).abs().T
        grad_x = (rounded(g) @ rounded(term.weight)) * keep.double()
        grad_w = rounded(g).T @ dropped
        assert term.x.grad is not None
        assert term.weight.grad is not None
        assert term.x.grad.dtype == term.weight.grad.dtype == torch.float32
        for found, wanted in ((term.x.grad, grad_x), (term.weight.grad, grad_w)):
            assert float((found - wanted).norm() / wanted.norm()) < limit
    assert float(((out.detach() - expected).abs() / size).max()) < limit
    # Not fp32's result, and not one that lost more than rounding explains.
    exact = sum_of_products(chosen, bias).detach()
    error = float((out.detach() - exact).norm() / exact.norm())
    assert 0.1 * HALF_STEP < error < 3 * HALF_STEP


def test_other_products_keep_their_factors() -> None:
    x = torch.full((256, 256), 1 + 2**-10)
    sum_of_products([Term(x, x)], precision=torch.bfloat16)
    assert torch.equal(torch.mm(x, torch.ones(256, 256)), 256 * x)


@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_a_run_differs_by_rounding_and_keeps_fp32(model: Any, parts_folder: PartsFolder) -> None:
    folder = parts_folder("single", 1)
    runs = {
        amp: record(World.single(), folder, dataclasses.replace(CONFIG, model=model, amp=amp), steps=1)
        for amp in ("off", "bf16")
    }
    for name, found in runs["bf16"].gradients[0].items():
        assert found.dtype == runs["bf16"].weights[name].dtype == "float32"
    flat = {amp: np.concatenate([g.ravel() for g in run.gradients[0].values()]) for amp, run in runs.items()}
    assert 1e-4 < np.linalg.norm(flat["bf16"] - flat["off"]) / np.linalg.norm(flat["off"]) < 0.02
    assert 1e-6 < largest_difference(runs["bf16"], runs["off"]) < 0.2


@pytest.mark.multi
def test_workers_agree_and_the_seed_decides(parts_folder: PartsFolder, tmp_path: Path) -> None:
    several = run_on(parts_folder("single", 3), 3, BF16, tmp_path)  # asserts that ranks have the same bits
    again = run_on(parts_folder("single", 3), 3, BF16, tmp_path)
    assert several.digests == again.digests
    alone = run_on(parts_folder("single", 1), 1, BF16, tmp_path)
    exact = run_on(parts_folder("single", 1), 1, CONFIG, tmp_path)
    assert abs(several.losses[0] - alone.losses[0]) < 0.01
    assert max(abs(a - b) for a, b in zip(several.losses, exact.losses, strict=True)) < 0.05


def score_of(world: World, folder: Path, config: TrainConfig) -> float:
    return float(trainer_of(world, folder, config).fit()["test_score"])


@pytest.mark.multi
def test_the_score_is_that_of_fp32(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    partition_graph("synthetic:nodes=4000,degree=12,features=32,classes=8,seed=2", parts=2, out=folder)
    found = {}
    for amp in ("off", "bf16"):
        config = dataclasses.replace(CONFIG, amp=amp, epochs=60, eval_every=10)
        found[amp] = run_ranks(score_of, 2, tmp_path, folder, config)[0]
    assert found["off"] > 0.8  # of 8 classes
    assert found["bf16"] == pytest.approx(found["off"], abs=0.02)
