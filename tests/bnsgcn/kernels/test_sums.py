"""sum_rows of every backend against a dense float64 product."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnsgcn.kernels import Block, Csr, Kernels
from bnsgcn.kernels.autograd import sum_block
from tests.bnsgcn.kernels.dense_blocks import COLUMN_COUNTS, random_block, weighted_block

TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-12}
Make = Callable[[int, int, float, int], tuple[Csr, Tensor]]
per_backend = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@per_backend
@given(
    rows=st.integers(0, 30),
    cols=st.integers(0, 30),
    columns=COLUMN_COUNTS,
    density=st.sampled_from([0.0, 0.1, 0.9]),
    scaled=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    ids=st.sampled_from([torch.int32, torch.int64]),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_dense_product(
    kernels: Kernels,
    rows: int,
    cols: int,
    columns: int,
    density: float,
    scaled: tuple[bool, bool, bool],
    dtype: torch.dtype,
    ids: torch.dtype,
    weighted: bool,
    seed: int,
) -> None:
    csr, dense = (weighted_block if weighted else random_block)(rows, cols, density, seed)
    csr = dataclasses.replace(csr, indptr=csr.indptr.to(ids), indices=csr.indices.to(ids))
    x = torch.randn(cols, columns, dtype=dtype)
    row_scale = torch.rand(rows, dtype=dtype) if scaled[0] else None
    col_scale = torch.rand(cols, dtype=dtype) if scaled[1] else None
    out = torch.randn(rows, columns, dtype=dtype) if scaled[2] else None
    wanted = expected_sum(dense, x, row_scale, col_scale, out)
    result = kernels.sum_rows(csr, x, row_scale=row_scale, col_scale=col_scale, out=out)
    assert result.dtype == dtype
    assert result.shape == (rows, columns)
    assert out is None or result.data_ptr() == out.data_ptr()
    torch.testing.assert_close(result.double(), wanted, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def expected_sum(
    dense: Tensor, x: Tensor, row_scale: Tensor | None, col_scale: Tensor | None, out: Tensor | None
) -> Tensor:
    wide = x.double() if col_scale is None else x.double() * col_scale.double()[:, None]
    total = dense @ wide
    if row_scale is not None:
        total = total * row_scale.double()[:, None]
    return total if out is None else total + out.double()


def test_the_comparison_notices_swapped_scales(kernels: Kernels) -> None:
    csr, dense = random_block(20, 20, 0.5, seed=1)
    x, scales = torch.randn(20, 33), torch.rand(2, 20) + 0.5
    wanted = expected_sum(dense, x, scales[0], scales[1], None)
    swapped = kernels.sum_rows(csr, x, row_scale=scales[1], col_scale=scales[0])
    assert (swapped.double() - wanted).abs().max() > 0.1


def test_takes_column_slices(kernels: Kernels) -> None:
    csr, dense = random_block(25, 19, 0.4, seed=2)
    both = torch.randn(19, 200)
    room = torch.randn(25, 200)
    before = room.clone()
    kernels.sum_rows(csr, both[:, 100:], out=room[:, :100])
    torch.testing.assert_close(
        room[:, :100].double(), before[:, :100] + dense @ both[:, 100:].double(), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(room[:, 100:], before[:, 100:])
    across = kernels.sum_rows(csr, torch.randn(40, 19).t().contiguous().t()[:0].t().reshape(19, 0))
    assert across.shape == (25, 0)


def test_takes_a_transposed_matrix(kernels: Kernels) -> None:
    csr, dense = random_block(9, 12, 0.5, seed=3)
    x = torch.randn(40, 12).t()
    torch.testing.assert_close(kernels.sum_rows(csr, x).double(), dense @ x.double(), atol=1e-4, rtol=1e-4)


def test_a_matrix_of_another_height_is_refused(kernels: Kernels) -> None:
    csr, _ = random_block(9, 12, 0.5, seed=3)
    with pytest.raises(ValueError, match=r"\(11, 4\).*12 columns"):
        kernels.sum_rows(csr, torch.randn(11, 4))


def test_other_float_types_work(kernels: Kernels) -> None:
    csr, dense = random_block(9, 12, 0.5, seed=4)
    x = torch.randn(12, 20)
    result = kernels.sum_rows(csr, x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), dense @ x.double(), atol=0.2, rtol=0.05)


@pytest.mark.parametrize("columns", [5, 47, 128, 256])
@pytest.mark.parametrize("make", [random_block, weighted_block])
def test_bitwise_the_same_for_repeats_and_threads(kernels: Kernels, columns: int, make: Make) -> None:
    csr, _ = make(700, 700, 0.05, seed=5)
    x, scale = torch.randn(700, columns), torch.rand(700)
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 1, 2):
            torch.set_num_threads(count)
            results.append(kernels.sum_rows(csr, x, row_scale=scale, col_scale=scale))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("columns", [5, 40])
def test_weights_of_1_change_no_bit(kernels: Kernels, columns: int) -> None:
    csr, _ = random_block(50, 60, 0.3, seed=9)
    x, scale = torch.randn(60, columns), torch.rand(60)
    ones = dataclasses.replace(csr, weights=torch.ones(csr.num_arcs))
    for col_scale in (None, scale):
        sums = [kernels.sum_rows(block, x, col_scale=col_scale) for block in (csr, ones)]
        assert torch.equal(*sums) or kernels.name == "dgl"  # whose weighted sums are torch's


@pytest.mark.parametrize("make", [random_block, weighted_block])
def test_gradients(kernels: Kernels, make: Make) -> None:
    csr, _ = make(7, 9, 0.4, seed=6)
    block = Block(csr, kernels)
    row_scale, col_scale = torch.rand(7, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    base = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)

    def total(x: Tensor, base: Tensor) -> Tensor:
        return sum_block(block, x, row_scale=row_scale, col_scale=col_scale, addend=base * 2)

    assert torch.autograd.gradcheck(total, (x, base))


@pytest.mark.parametrize("make", [random_block, weighted_block])
def test_backward_is_the_transpose(kernels: Kernels, make: Make) -> None:
    """<A x, y> = <x, A' y>; with the scales on the wrong sides it is not."""
    csr, _ = make(40, 30, 0.3, seed=7)
    block = Block(csr, kernels)
    scales = torch.rand(40, dtype=torch.float64) + 0.5, torch.rand(30, dtype=torch.float64) + 0.5
    x = torch.randn(30, 21, dtype=torch.float64, requires_grad=True)
    y = torch.randn(40, 21, dtype=torch.float64)
    total = sum_block(block, x, row_scale=scales[0], col_scale=scales[1])
    (grad,) = torch.autograd.grad(total, x, y)
    forward, backward = (total * y).sum(), (x * grad).sum()
    torch.testing.assert_close(forward, backward, atol=1e-10, rtol=1e-10)
    unscaled = kernels.sum_rows(block.transposed, y)
    assert float(((x * unscaled).sum() - forward).detach().abs()) > 1e-3


def test_addend_is_changed_in_place(kernels: Kernels) -> None:
    csr, dense = random_block(7, 9, 0.4, seed=8)
    base, x = torch.ones(7, 5), torch.randn(9, 5)
    result = sum_block(Block(csr, kernels), x, addend=base)
    assert result.data_ptr() == base.data_ptr()
    torch.testing.assert_close(base.double(), 1 + dense @ x.double(), atol=1e-5, rtol=1e-5)


def test_a_block_checks_its_arrays() -> None:
    with pytest.raises(ValueError, match="to 3, but there are 2"):
        Csr.of(torch.tensor([0, 3]), torch.tensor([0, 1]), 5)
    with pytest.raises(ValueError, match="descends from 3 to 1 at row 1"):
        Csr.of(torch.tensor([0, 3, 1, 2]), torch.tensor([0, 1]), 5)
    with pytest.raises(ValueError, match=r"from 0 to 7.*5 columns"):
        Csr.of(torch.tensor([0, 2]), torch.tensor([0, 7]), 5)
    assert Csr.of(torch.tensor([0, 2]), torch.tensor([0, 4]), 5).indices.dtype == torch.int32
    assert Csr.of(torch.tensor([0, 1]), torch.tensor([2**31]), 2**31 + 1).indices.dtype == torch.int64
