"""Bf16 rows: what a pass makes of them is what the float32 pass makes of the same numbers, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bnsgcn.kernels import Csr, Kernels, LayerNorm, Mask, half_rows, pool, select

HALF = torch.bfloat16


@pytest.fixture(params=["compiled", "torch"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return select(request.param)


def block(rows: int, columns: int, degree: int, *, weighted: bool, dtype: torch.dtype = torch.int32) -> Csr:
    """Rows of 0 to 2 degree arcs."""
    generator = torch.Generator().manual_seed(rows)
    degrees = torch.randint(0, 2 * degree + 1, (rows,), generator=generator)
    indptr = torch.zeros(rows + 1, dtype=dtype)
    torch.cumsum(degrees, 0, out=indptr[1:])
    indices = torch.randint(0, columns, (int(indptr[-1]),), generator=generator, dtype=dtype)
    weights = torch.rand(indices.numel(), generator=generator) if weighted else None
    return Csr(indptr, indices, rows, columns, weights)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(HALF)


@pytest.mark.parametrize("width", [1, 7, 16, 17, 47, 128, 300])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
def test_sums_are_float32_and_rounded_once(
    kernels: Kernels, width: int, scaled: bool, weighted: bool, ids: torch.dtype
) -> None:
    csr, x = block(40, 30, 6, weighted=weighted, dtype=ids), numbers(30, width)
    scales = {"row_scale": torch.rand(40) + 0.1, "col_scale": torch.rand(30) + 0.1} if scaled else {}
    exact = kernels.sum_rows(csr, x.float(), **scales)
    found = kernels.sum_rows(csr, x, **scales)
    assert found.dtype == HALF
    assert torch.equal(found, exact.to(HALF))
    start = numbers(40, width, seed=1)
    added = kernels.sum_rows(csr, x, out=start.clone(), **scales)
    assert torch.equal(added, (exact + start.float()).to(HALF))


def test_sums_keep_what_is_not_a_number_and_round_ties_to_even(kernels: Kernels) -> None:
    csr = Csr(
        torch.tensor([0, 1, 2, 3, 5], dtype=torch.int32),
        torch.tensor([0, 1, 2, 3, 4], dtype=torch.int32),
        4,
        5,
    )
    x = torch.tensor([[float("nan")], [float("inf")], [3.39e38], [1.0], [2**-8]]).expand(5, 16).to(HALF)
    found = kernels.sum_rows(csr, x.contiguous())
    assert found[0].isnan().all()
    assert found[1].isinf().all()
    assert (found[3] == 1).all()


def test_a_sum_that_is_rounded_at_every_arc_would_be_noticed() -> None:
    arcs = 1000
    csr = Csr(torch.tensor([0, arcs], dtype=torch.int32), torch.zeros(arcs, dtype=torch.int32), 1, 1)
    for name in ("compiled", "torch"):
        assert float(select(name).sum_rows(csr, torch.ones(1, 32, dtype=HALF))[0, 0]) == 1000  # type: ignore[arg-type]
    total = torch.zeros(1, dtype=HALF)
    for _ in range(arcs):
        total += 1
    assert float(total) == 256


def rounded(found: Tensor, exact: Tensor) -> None:
    assert found.dtype == HALF
    assert torch.equal(found, exact.to(HALF))


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_elementwise_passes(kernels: Kernels, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_rows, "_PIECE_ENTRIES", 1)  # pieces of 256 rows
    rows, width = 700, 20
    x, grad, mask = (
        numbers(rows, width),
        numbers(rows, width, seed=2),
        Mask(torch.arange(rows) * 3, key=5, p=p),
    )
    wide, wide_grad = x.float(), grad.float()
    passes: list[Callable[..., Tensor]] = [kernels.dropout, kernels.relu_dropout]
    for each in passes:
        rounded(each(x, mask), each(wide, mask))
        again = x.clone()
        rounded(each(again, mask, out=again), each(wide, mask))
    output = kernels.relu_dropout(x, mask)
    rounded(
        kernels.relu_dropout_backward(grad, output, p),
        kernels.relu_dropout_backward(wide_grad, output.float(), p),
    )
    norm = LayerNorm(torch.rand(width) + 0.5, torch.randn(width))
    made, moments = kernels.norm_relu_dropout(x, norm, mask)
    exact, exact_moments = kernels.norm_relu_dropout(wide, norm, mask)
    rounded(made, exact)
    assert torch.equal(moments.mean, exact_moments.mean)
    found: tuple[Any, ...] = kernels.norm_relu_dropout_backward(grad, x, moments, norm, mask)
    expected: tuple[Any, ...] = kernels.norm_relu_dropout_backward(wide_grad, wide, exact_moments, norm, mask)
    rounded(found[0], expected[0])
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)


def test_rows_by_index(kernels: Kernels) -> None:
    x, index, scale = numbers(9, 20), torch.tensor([3, 3, 0, 8]), torch.tensor([0.3, 1.0, 2.0, 0.7])
    rounded(kernels.gather_rows(x, index, scale=scale), kernels.gather_rows(x.float(), index, scale=scale))
    rows, total = numbers(4, 20, seed=3), numbers(9, 20, seed=4)
    exact = total.float()
    kernels.scatter_add_rows(exact, index[1:], rows[1:].float(), scale=scale[1:])
    kernels.scatter_add_rows(total, index[1:], rows[1:], scale=scale[1:])
    torch.testing.assert_close(total.float(), exact, rtol=2**-7, atol=2**-7)
    codes, steps = kernels.pack_int8(x, index, 11)
    expected = kernels.pack_int8(x.float(), index, 11)
    assert torch.equal(codes, expected[0])
    assert torch.equal(steps, expected[1])


def test_large_tensors_come_from_the_pool() -> None:
    kept = pool.Pool()
    assert kept.empty((1 << 11, 1 << 10), HALF).dtype == HALF
    assert kept.mapped_bytes == 1 << 22
