"""Batch normalisation over all workers is torch's over all rows; then ReLU, then dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from bnsgcn.dist import World
from bnsgcn.exchange.clock import Clock
from bnsgcn.kernels import random_bits, select
from bnsgcn.nn import Dropout, NormReluDropout, SyncBatchNorm
from bnsgcn.nn.hop import Rows
from tests.multiprocess import run_ranks

ROWS, FEATURES = 24, 5
SHARES = {1: [slice(0, 24)], 3: [slice(0, 1), slice(1, 1), slice(1, 24)]}
KERNELS = select("torch", torch.device("cpu"), torch.float64)


def rows_of(world: World, share: slice = SHARES[1][0], epoch: int = 0) -> Rows:
    return Rows(torch.arange(ROWS)[share], Clock(7, epoch), world, KERNELS)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(2, ROWS, FEATURES, generator=generator, dtype=torch.float64)).unbind()
    return 3 * x + 2, g


def three_steps(world: World) -> dict[str, torch.Tensor]:
    """Normalise this rank's rows three times and then in evaluation; gradients as after one reduction."""
    share = SHARES[world.size][world.rank]
    norm = SyncBatchNorm(FEATURES).double()
    x, g = (values[share] for values in inputs())
    found: dict[str, torch.Tensor] = {}
    for step in range(3):
        h = (x * (step + 1)).requires_grad_()
        y = norm(rows_of(world, share), h)
        (y * g).sum().backward()
        assert h.grad is not None
        found |= {f"y{step}": y.detach(), f"g{step}": h.grad}
    for name, parameter in norm.named_parameters():
        assert parameter.grad is not None
        found[name] = world.all_reduce(parameter.grad.clone())
    found |= {"mean": norm.running_mean, "var": norm.running_var}
    norm.eval()
    return found | {"evaluated": norm(rows_of(world, share), x).detach()}


def by_torch() -> dict[str, torch.Tensor]:
    norm = torch.nn.BatchNorm1d(FEATURES).double()
    x, g = inputs()
    found: dict[str, torch.Tensor] = {}
    for step in range(3):
        h = (x * (step + 1)).requires_grad_()
        y = norm(h)
        (y * g).sum().backward()
        found |= {f"y{step}": y.detach(), f"g{step}": h.grad}
    found |= {name: parameter.grad for name, parameter in norm.named_parameters()}  # type: ignore[misc]
    found |= {"mean": norm.running_mean, "var": norm.running_var}  # type: ignore[dict-item]
    norm.eval()
    return found | {"evaluated": norm(x).detach()}


def largest_difference(ranks: list[dict[str, torch.Tensor]]) -> float:
    reference, worst = by_torch(), 0.0
    for name, expected in reference.items():
        per_row = name == "evaluated" or name[0] in "yg"
        found = [torch.cat([rank[name] for rank in ranks])] if per_row else [rank[name] for rank in ranks]
        worst = max(worst, *(float((each - expected).abs().max()) for each in found))
    return worst


@pytest.mark.multi
@pytest.mark.parametrize("ranks", [1, 3])
def test_batch_norm_is_torchs_over_all_rows(ranks: int, tmp_path: Path) -> None:
    found = [three_steps(World.single())] if ranks == 1 else run_ranks(three_steps, ranks, tmp_path)
    assert largest_difference(found) < 1e-12


def three_steps_alone(world: World) -> dict[str, torch.Tensor]:
    """Breach: every rank normalises by its own rows."""
    with mock.patch.object(World, "all_reduce", lambda _, values, *__: values):
        return three_steps(world)


@pytest.mark.multi
def test_statistics_of_one_rank_are_noticed(tmp_path: Path) -> None:
    assert largest_difference(run_ranks(three_steps_alone, 3, tmp_path)) > 0.1


@pytest.mark.parametrize("norm", ["layer", "none", "batch"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_between_two_layers_norm_then_relu_then_dropout(norm: Any, dropout: float) -> None:
    between = NormReluDropout(FEATURES, norm, dropout=dropout, layer=2).double()
    x = inputs()[0]
    normed = {
        "layer": torch.nn.functional.layer_norm(x, (FEATURES,)),
        "none": x,
        "batch": torch.nn.functional.batch_norm(x, None, None, training=True),
    }[norm].relu()
    if dropout:
        key = random_bits.key(7, 5, 2, random_bits.Stream.DROPOUT)
        mask = random_bits.keep_mask(key, torch.arange(ROWS), FEATURES, dropout)
        normed = normed * mask * random_bits.LEVELS / random_bits.keep_levels(dropout)
    assert torch.allclose(between(rows_of(World.single(), epoch=5), x), normed, atol=1e-12)


def test_dropout_is_another_each_epoch_and_none_in_evaluation() -> None:
    dropout, x = Dropout(0.5, layer=1), torch.ones(ROWS, FEATURES, dtype=torch.float64)
    first, second = (dropout(rows_of(World.single(), epoch=epoch), x) for epoch in (0, 1))
    assert torch.equal(first, dropout(rows_of(World.single(), epoch=0), x))
    assert not torch.equal(first, second)
    dropout.eval()
    assert torch.equal(dropout(rows_of(World.single()), x), x)
    with pytest.raises(ValueError, match=r"dropout probability is 1\.0"):
        Dropout(1.0, layer=0)


@pytest.mark.parametrize("kernel", ["torch", "dgl", "compiled"])
@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_what_is_not_a_number_stays_one(norm: Any, dropout: float, kernel: Any) -> None:
    """A ReLU that turns it into 0 would let a run go on with a finite loss and a broken layer."""
    try:
        kernels = select(kernel)
    except ValueError as missing:
        pytest.skip(str(missing))
    between = NormReluDropout(40, norm, dropout=dropout, layer=2)
    x = torch.ones(3, 40)
    x[1] = torch.nan
    h = between(Rows(torch.arange(3), Clock(0), World.single(), kernels), x)
    assert torch.isfinite(h[::2]).all()
    assert torch.isnan(h[1]).any()
