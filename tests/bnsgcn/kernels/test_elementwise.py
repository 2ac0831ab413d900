"""Dropout and the fused passes against torch's own operations with the same mask."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bnsgcn.kernels import Kernels, LayerNorm, Mask, autograd, random_bits, select
from tests.bnsgcn.kernels.dense_blocks import COLUMN_COUNTS

KEY = random_bits.key(0, 1, 2, random_bits.Stream.DROPOUT)
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
per_backend = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def ids_of(rows: int) -> Tensor:
    return torch.arange(rows) * 37 + 2**33


def mask_of(x: Tensor, p: float) -> Mask:
    return Mask(ids_of(x.shape[0]), KEY, p)


def composed(x: Tensor, weight: Tensor | None, bias: Tensor | None, p: float) -> Tensor:
    """Layer norm, ReLU and dropout one after another, with the generator's mask."""
    return masked(torch.relu(F.layer_norm(x, x.shape[1:], weight, bias, 1e-5)), p)


def masked(y: Tensor, p: float) -> Tensor:
    kept = random_bits.keep_mask(KEY, ids_of(y.shape[0]), y.shape[1], p)
    return y * kept * (random_bits.LEVELS / random_bits.keep_levels(p))


@per_backend
@given(
    rows=st.integers(0, 40),
    columns=COLUMN_COUNTS,
    p=st.sampled_from([0.0, 0.3, 0.5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_dropout_and_relu_dropout(
    kernels: Kernels, rows: int, columns: int, p: float, dtype: torch.dtype
) -> None:
    x = torch.randn(rows, columns, dtype=dtype)
    before, mask = x.clone(), mask_of(x, p)
    assert torch.equal(kernels.dropout(x, mask), masked(x, p))
    dropped = kernels.relu_dropout(x, mask)
    assert torch.equal(dropped, masked(torch.relu(x), p))
    assert torch.equal(x, before)
    grad = torch.randn_like(x)
    assert torch.equal(kernels.relu_dropout_backward(grad, dropped, p), masked(grad * (x > 0), p))
    in_place = x.clone()
    assert kernels.relu_dropout(in_place, mask, out=in_place).data_ptr() == in_place.data_ptr()
    assert torch.equal(in_place, dropped)


@per_backend
@given(
    rows=st.integers(0, 40),
    columns=COLUMN_COUNTS,
    p=st.sampled_from([0.0, 0.5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    affine=st.tuples(st.booleans(), st.booleans()),
)
def test_norm_relu_dropout(
    kernels: Kernels, rows: int, columns: int, p: float, dtype: torch.dtype, affine: tuple[bool, bool]
) -> None:
    if columns < 3:
        columns = 3  # the norm of one or two columns is a sign: its gradient is all rounding
    x = torch.randn(rows, columns, dtype=dtype, requires_grad=True)
    weight = torch.randn(columns, dtype=dtype, requires_grad=True) if affine[0] else None
    bias = torch.randn(columns, dtype=dtype, requires_grad=True) if affine[1] else None
    fused = autograd.norm_relu_dropout(kernels, x, LayerNorm(weight, bias), mask_of(x, p))
    plain = composed(x, weight, bias, p)
    close(fused, plain, 1)
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]
    grad = torch.randn_like(fused)
    ours, theirs = torch.autograd.grad(fused, leaves, grad), torch.autograd.grad(plain, leaves, grad)
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, 20)


def close(one: Tensor, other: Tensor, factor: float) -> None:
    tolerance = TOLERANCE[one.dtype] * factor
    torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_the_comparison_notices_another_key(kernels: Kernels) -> None:
    x = torch.randn(50, 64)
    other = autograd.norm_relu_dropout(kernels, x, LayerNorm(), Mask(ids_of(50), KEY + 1, 0.5))
    assert not torch.allclose(other, composed(x, None, None, 0.5), atol=0.1)


@pytest.mark.parametrize(("p", "affine"), list(itertools.product([0.0, 0.5], [True, False])))
def test_gradients(kernels: Kernels, p: float, affine: bool) -> None:
    x = torch.randn(3, 35, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(35, dtype=torch.float64, requires_grad=True) if affine else None
    bias = torch.randn(35, dtype=torch.float64, requires_grad=True) if affine else None

    def fused(*leaves: Tensor) -> Tensor:
        return autograd.norm_relu_dropout(kernels, x, LayerNorm(weight, bias), mask)

    mask = mask_of(x, p)
    leaves = tuple(leaf for leaf in (x, weight, bias) if leaf is not None)
    assert torch.autograd.gradcheck(fused, leaves)
    assert torch.autograd.gradcheck(lambda y: autograd.relu_dropout(kernels, y, mask), (x,))
    assert torch.autograd.gradcheck(lambda y: autograd.dropout(kernels, y, mask), (x,))


def test_backward_keeps_no_mask_and_one_matrix(kernels: Kernels) -> None:
    """What autograd saves of the fused pass: x, and vectors."""
    x = torch.randn(30, 64, requires_grad=True)
    weight = torch.ones(64, requires_grad=True)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = autograd.norm_relu_dropout(kernels, x, LayerNorm(weight), mask_of(x, 0.5))
        autograd.dropout(kernels, hidden, mask_of(x, 0.5))
    matrices = [tensor for tensor in saved if tensor.numel() >= x.numel()]
    assert [matrix.data_ptr() for matrix in matrices] == [x.data_ptr()]


def test_bitwise_the_same_for_repeats_and_threads(compiled: Kernels) -> None:
    x, grad = torch.randn(3_000, 100), torch.randn(3_000, 100)
    norm, mask = LayerNorm(torch.randn(100), torch.randn(100)), mask_of(x, 0.5)
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 1, 2):
            torch.set_num_threads(count)
            out, moments = compiled.norm_relu_dropout(x, norm, mask)
            grads = compiled.norm_relu_dropout_backward(grad, x, moments, norm, mask)
            results.append((out, *moments, *grads, compiled.dropout(x, mask)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_backends_drop_the_same_entries(compiled: Kernels) -> None:
    x = torch.randn(500, 100)
    for p in (0.1, 0.5):
        mask = mask_of(x, p)
        assert torch.equal(compiled.dropout(x, mask), select("torch").dropout(x, mask))


def test_dropout_without_loss_is_the_input(kernels: Kernels) -> None:
    x = torch.randn(5, 8)
    assert autograd.dropout(kernels, x, mask_of(x, 0.0)) is x


def test_one_id_for_each_row(compiled: Kernels) -> None:
    with pytest.raises(ValueError, match="4 node ids for 5 rows"):
        compiled.dropout(torch.randn(5, 8), Mask(ids_of(4), KEY, 0.5))


def test_half_precision_takes_the_portable_path(kernels: Kernels) -> None:
    x = torch.randn(20, 33, dtype=torch.bfloat16)
    assert torch.equal(kernels.dropout(x, mask_of(x, 0.5)), masked(x, 0.5).bfloat16())
