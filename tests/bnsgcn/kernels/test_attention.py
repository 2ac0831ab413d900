"""Attention sums against a dense reference, and attention over two blocks against one softmax."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bnsgcn.kernels import Block, Kernels
from bnsgcn.kernels.autograd import attention_sum
from tests.bnsgcn.kernels.dense_blocks import block_of, random_block

SLOPE = 0.2
per_backend = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def dense_attention(
    dense: Tensor, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """The same sums with [R, C, h] weights, float64."""
    scores = F.leaky_relu(score_dst[:, None] + score_src[None], SLOPE)
    weights = torch.exp(scores - shift[:, None]) * dense[:, :, None]
    return torch.einsum("rch,chd->rhd", weights, x), weights.sum(1)


def leaves(rows: int, cols: int, heads: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    shapes = (rows, heads), (cols, heads), (cols, heads, width)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@per_backend
@given(
    rows=st.integers(0, 20),
    cols=st.integers(0, 20),
    heads=st.sampled_from([1, 2, 3, 8]),
    width=st.sampled_from([1, 5, 8, 16, 33]),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_equals_the_dense_reference(
    kernels: Kernels,
    rows: int,
    cols: int,
    heads: int,
    width: int,
    density: float,
    dtype: torch.dtype,
    seed: int,
) -> None:
    csr, dense = random_block(rows, cols, density, seed)
    given_leaves = leaves(rows, cols, heads, width, dtype)
    shift = torch.rand(rows, heads, dtype=dtype)
    ours = attention_sum(Block(csr, kernels), *given_leaves, shift, SLOPE)
    wide = [leaf.detach().double().requires_grad_() for leaf in given_leaves]
    theirs = dense_attention(dense, *wide, shift.double())
    grads = [torch.randn_like(result) for result in ours]
    our_grads = torch.autograd.grad(ours, given_leaves, grads)
    their_grads = torch.autograd.grad(theirs, wide, [grad.double() for grad in grads])
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    for one, other in zip([*ours, *our_grads], [*theirs, *their_grads], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance)


def test_gradients(kernels: Kernels) -> None:
    csr, _ = random_block(6, 8, 0.5, seed=1)
    block, shift = Block(csr, kernels), torch.rand(6, 2, dtype=torch.float64)
    given_leaves = leaves(6, 8, 2, 3, torch.float64)
    assert torch.autograd.gradcheck(lambda *each: attention_sum(block, *each, shift, SLOPE), given_leaves)


def test_the_comparison_notices_a_missing_slope(kernels: Kernels) -> None:
    csr, dense = random_block(6, 8, 0.9, seed=2)
    given_leaves = leaves(6, 8, 2, 3, torch.float64)
    shift = torch.zeros(6, 2, dtype=torch.float64)
    linear = attention_sum(Block(csr, kernels), *given_leaves, shift, 1.0)
    assert not torch.allclose(linear[0], dense_attention(dense, *given_leaves, shift)[0], atol=1e-2)


def test_two_blocks_make_one_softmax(kernels: Kernels) -> None:
    """Inner and halo sums with a common shift, added and divided, are the softmax over all neighbours."""
    dense = torch.rand(9, 14) < 0.5
    dense[:, 0] = True  # every row has a neighbour
    score_dst, score_src, x = leaves(9, 14, 2, 5, torch.float64)
    split = slice(0, 8), slice(8, 14)
    blocks = [Block(block_of(dense[:, part]), kernels) for part in split]
    largest = torch.stack(
        [
            block.kernels.row_max(block.csr, score_src[part].detach())
            for block, part in zip(blocks, split, strict=True)
        ]
    )
    shift = F.leaky_relu(score_dst.detach() + largest.amax(0), SLOPE)
    pieces = [
        attention_sum(block, score_dst, score_src[part], x[part], shift, SLOPE)
        for block, part in zip(blocks, split, strict=True)
    ]
    total, weight = (sum(piece[place] for piece in pieces) for place in (0, 1))
    scores = F.leaky_relu(score_dst[:, None] + score_src[None], SLOPE)
    softmax = torch.softmax(scores.masked_fill(~dense[:, :, None], -torch.inf), dim=1)
    wanted = torch.einsum("rch,chd->rhd", softmax, x)
    assert isinstance(total, Tensor)
    assert isinstance(weight, Tensor)
    result = total / weight[:, :, None]
    torch.testing.assert_close(result, wanted, atol=1e-12, rtol=1e-12)
    grad = torch.randn_like(wanted)
    ours = torch.autograd.grad(result, (score_dst, score_src, x), grad)
    theirs = torch.autograd.grad(wanted, (score_dst, score_src, x), grad)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_without_heads_there_is_nothing(kernels: Kernels) -> None:
    csr, _ = random_block(6, 8, 0.5, seed=1)
    total, weight = attention_sum(
        Block(csr, kernels),
        torch.empty(6, 0),
        torch.empty(8, 0),
        torch.empty(8, 0, 3),
        torch.empty(6, 0),
        SLOPE,
    )
    assert total.shape == (6, 0, 3)
    assert weight.shape == (6, 0)


def test_large_scores_do_not_overflow(kernels: Kernels) -> None:
    csr = block_of(torch.ones(1, 3, dtype=torch.bool))
    block = Block(csr, kernels)
    score_src, x = torch.tensor([[1000.0], [900.0], [-1e6]]), torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
    shift = F.leaky_relu(block.kernels.row_max(block.csr, score_src), SLOPE)
    total, weight = attention_sum(block, torch.zeros(1, 1), score_src, x, shift, SLOPE)
    assert (total / weight[:, :, None]).item() == 1.0


def test_row_max(kernels: Kernels) -> None:
    csr, dense = random_block(12, 9, 0.3, seed=3)
    x = torch.randn(9, 3)
    wanted = torch.where(dense[:, :, None] > 0, x[None], -torch.inf).amax(1)
    assert torch.equal(kernels.row_max(csr, x), wanted)


@pytest.mark.parametrize("scale", [1.0, 30.0, 86.0])
def test_compiled_exponential(compiled: Kernels, scale: float) -> None:
    """Weights of single arcs are exponentials: within 4 units in the last place, then 0 or infinite."""
    scores = torch.linspace(-scale, 0, 20_001)[:, None]
    block = Block(
        block_of(torch.eye(1, dtype=torch.bool)).select_rows(torch.zeros(20_001, dtype=torch.int64)), compiled
    )
    zero = torch.zeros(1, 1)
    _, weight = attention_sum(block, scores, zero, zero[:, :, None], torch.zeros_like(scores), 1.0)
    wanted = torch.exp(scores.double())
    assert float(((weight.double() - wanted) / wanted).abs().max()) < 4 * 2**-24
    _, nothing = attention_sum(block, scores - 1e4, zero, zero[:, :, None], torch.zeros_like(scores), 1.0)
    assert float(nothing.max()) == 0.0
    _, above = attention_sum(block, 88.4 - scores, zero, zero[:, :, None], torch.zeros_like(scores), 1.0)
    assert bool((above == torch.inf).all())


def test_bitwise_the_same_for_repeats_and_threads(compiled: Kernels) -> None:
    csr, _ = random_block(500, 400, 0.1, seed=4)
    block = Block(csr, compiled)
    given_leaves = leaves(500, 400, 4, 16, torch.float32)
    shift = torch.ones(500, 4)
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            total, weight = attention_sum(block, *given_leaves, shift, SLOPE)
            grads = torch.autograd.grad((total.sum() + (weight**2).sum()), given_leaves)
            results.append((total, weight, *grads))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
