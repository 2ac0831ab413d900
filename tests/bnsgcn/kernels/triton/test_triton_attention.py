"""Attention sums, their gradients and the largest scores against torch's kernels on CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bnsgcn.kernels import Block, Kernels
from bnsgcn.kernels.autograd import attention_sum
from tests.bnsgcn.kernels.dense_blocks import block_of, random_block

SLOPE = 0.2


def leaves(rows: int, cols: int, heads: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (rows, heads), (cols, heads), (cols, heads, width)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def both_ways(block: Block, given: list[Tensor], shift: Tensor, device: torch.device) -> list[Tensor]:
    """Sum, weight and the three gradients, on CPU."""
    there = [leaf.detach().to(device).requires_grad_() for leaf in given]
    results = attention_sum(block, there[0], there[1], there[2], shift.to(device), SLOPE)
    grads = [torch.linspace(-1, 1, r.numel(), device=device).view(r.shape).to(r.dtype) for r in results]
    return [one.detach().cpu() for one in (*results, *torch.autograd.grad(results, there, grads))]


@pytest.mark.parametrize(
    ("rows", "cols", "heads", "width", "density", "dtype"),
    [
        (11, 9, 3, 5, 0.5, torch.float32),
        (7, 12, 1, 33, 0.9, torch.float64),
        (6, 6, 4, 16, 0.3, torch.bfloat16),
        (6, 6, 8, 1, 0.6, torch.float32),
        (5, 6, 2, 4, 0.0, torch.float32),
    ],
)
def test_equals_torchs(
    kernels: Kernels,
    reference: Kernels,
    device: torch.device,
    way: str,
    rows: int,
    cols: int,
    heads: int,
    width: int,
    density: float,
    dtype: torch.dtype,
) -> None:
    csr, _ = random_block(rows, cols, density, 7)
    given, shift = leaves(rows, cols, heads, width, dtype), torch.rand(rows, heads).to(dtype)
    ours = both_ways(Block(csr.to(device), kernels), given, shift, device)
    wide = [leaf.detach().double() for leaf in given]
    theirs = both_ways(Block(csr, reference), wide, shift.double(), torch.device("cpu"))
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2}[dtype]
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance)


def test_gradients(kernels: Kernels, device: torch.device) -> None:
    csr = random_block(4, 5, 0.6, seed=1)[0].to(device)
    block, shift = Block(csr, kernels), torch.rand(4, 2, dtype=torch.float64, device=device)
    given = [leaf.detach().to(device).requires_grad_() for leaf in leaves(4, 5, 2, 2, torch.float64)]
    assert torch.autograd.gradcheck(
        lambda *each: attention_sum(block, *each, shift, SLOPE), given, fast_mode=True
    )


def test_large_scores_do_not_overflow(kernels: Kernels, device: torch.device) -> None:
    block = Block(block_of(torch.ones(1, 3, dtype=torch.bool)).to(device), kernels)
    score_src = torch.tensor([[1000.0], [900.0], [-1e6]], device=device)
    x = torch.tensor([[[1.0]], [[2.0]], [[3.0]]], device=device)
    shift = F.leaky_relu(kernels.row_max(block.csr, score_src), SLOPE)
    total, weight = attention_sum(block, torch.zeros(1, 1, device=device), score_src, x, shift, SLOPE)
    assert (total / weight[:, :, None]).item() == 1.0


@pytest.mark.parametrize("heads", [1, 3])
def test_row_max(kernels: Kernels, device: torch.device, way: str, heads: int) -> None:
    csr, dense = random_block(12, 9, 0.5, seed=3)
    x = torch.randn(9, heads)
    x[csr.indices[0], 0] = torch.nan
    wanted = torch.where(dense[:, :, None] > 0, x[None], -torch.inf).amax(1)
    found = kernels.row_max(csr.to(device), x.to(device)).cpu()
    torch.testing.assert_close(found, wanted, atol=0, rtol=0, equal_nan=True)
    assert bool(found.isnan().any())
    assert bool((found == -torch.inf).any())


def test_without_heads_there_is_nothing(kernels: Kernels, device: torch.device) -> None:
    csr = random_block(6, 8, 0.5, seed=1)[0].to(device)
    given = [torch.empty(shape, device=device) for shape in ((6, 0), (8, 0), (8, 0, 3), (6, 0))]
    total, weight = attention_sum(Block(csr, kernels), *given, SLOPE)
    assert (total.shape, weight.shape) == ((6, 0, 3), (6, 0))


def test_bitwise_the_same_every_time(kernels: Kernels, device: torch.device, way: str) -> None:
    csr = random_block(10, 12, 0.5, seed=4)[0].to(device)
    given, shift = leaves(10, 12, 2, 8, torch.float32), torch.ones(10, 2)
    one, other = (both_ways(Block(csr, kernels), given, shift, device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
