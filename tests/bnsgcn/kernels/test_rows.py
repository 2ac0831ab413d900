"""Rows by index, and the number formats in which they travel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnsgcn.kernels import Kernels, random_bits, select
from tests.bnsgcn.kernels.dense_blocks import COLUMN_COUNTS

per_backend = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@per_backend
@given(
    rows=st.integers(1, 30),
    columns=COLUMN_COUNTS,
    count=st.integers(0, 40),
    scaled=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_gather_and_scatter(
    kernels: Kernels, rows: int, columns: int, count: int, scaled: bool, dtype: torch.dtype
) -> None:
    x, index = torch.randn(rows, columns, dtype=dtype), torch.randint(rows, (count,))
    scale = torch.rand(count, dtype=dtype) if scaled else None
    wanted = x[index] if scale is None else x[index] * scale[:, None]
    assert torch.equal(kernels.gather_rows(x, index, scale=scale), wanted)
    half = torch.empty(count, columns, dtype=torch.bfloat16)
    kernels.gather_rows(x, index, scale=scale, out=half)
    assert torch.equal(half, wanted.bfloat16())
    out, given_rows = torch.randn(rows, columns, dtype=dtype), torch.randn(count, columns, dtype=dtype)
    total = out.clone()
    for place in range(count):  # one after another: what a repeated row must add up to, bit for bit
        total[index[place]] += given_rows[place] if scale is None else given_rows[place] * scale[place]
    kernels.scatter_add_rows(out, index, given_rows, scale=scale)
    assert torch.equal(out, total)


def test_gather_of_a_column_slice(kernels: Kernels) -> None:
    wide, index = torch.randn(20, 90), torch.tensor([3, 3, 19])
    assert torch.equal(kernels.gather_rows(wide[:, 30:60], index), wide[index, 30:60])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scatter_of_half_precision_rows(kernels: Kernels, dtype: torch.dtype) -> None:
    out, index = torch.randn(10, 33), torch.tensor([1, 4, 1])
    rows = torch.randn(3, 33).to(dtype)
    wanted = out.clone().index_add_(0, index, rows.float())
    kernels.scatter_add_rows(out, index, rows)
    assert torch.equal(out, wanted)


def test_rounding_to_bf16_is_torchs(compiled: Kernels) -> None:
    words = torch.randint(-(2**31), 2**31 - 1, (5_000, 16)).int()
    x = torch.cat([words.view(torch.float32), torch.tensor([[torch.nan, torch.inf, -torch.inf, -0.0] * 4])])
    half = torch.empty(x.shape, dtype=torch.bfloat16)
    compiled.gather_rows(x, torch.arange(x.shape[0]), out=half)
    assert torch.equal(half.isnan(), x.isnan())
    assert torch.equal(half.nan_to_num(), x.bfloat16().nan_to_num())


def test_rows_beyond_the_end(kernels: Kernels) -> None:
    x = torch.randn(5, 8)
    for index in (torch.tensor([0, 5]), torch.tensor([-6])):
        with pytest.raises(IndexError):
            kernels.gather_rows(x, index)


@per_backend
@given(rows=st.integers(0, 30), columns=COLUMN_COUNTS, seed=st.integers(0, 99), top=st.sampled_from([127, 7]))
def test_codes_are_the_same_on_every_backend(
    kernels: Kernels, rows: int, columns: int, seed: int, top: int
) -> None:
    x = (
        torch.randn(rows, columns) * torch.logspace(-20, 20, rows)[:, None]
        if rows
        else torch.empty(0, columns)
    )
    x[1::4] = 0
    index = torch.randint(rows, (2 * rows,)) if rows else None
    codes, scale = kernels.pack_int8(x, index, seed, top)
    reference = select("torch").pack_int8(x, index, seed, top)
    assert torch.equal(codes, reference[0])
    assert torch.equal(scale, reference[1])
    assert not codes.numel() or int(codes.abs().max()) <= top
    chosen = x if index is None else x[index]
    unpacked = codes.float() * scale[:, None]
    assert bool(((unpacked - chosen).abs() <= scale[:, None] * 1.001).all())


def test_int8_steps_are_divided_and_not_multiplied_by_a_reciprocal(compiled: Kernels) -> None:
    """What a second rounding changes is one code in a million: many rows are needed to see it."""
    x = torch.randn(200_000, 33, generator=torch.Generator().manual_seed(1))
    for one, other in zip(compiled.pack_int8(x, None, 4), select("torch").pack_int8(x, None, 4), strict=True):
        assert torch.equal(one, other)


def test_int8_rounds_without_bias(kernels: Kernels) -> None:
    """The mean over many keys is the row, to the standard error of a mean; rounding to nearest is off."""
    x = torch.linspace(-1, 1, 41)[None] * 0.9 + 0.003
    draws = 1_000
    mean = torch.zeros(1, 41, dtype=torch.float64)
    for draw in range(draws):
        codes, scale = kernels.pack_int8(
            x, None, random_bits.key(0, draw, 0, random_bits.Stream.FEATURE_ROUNDING)
        )
        mean += codes.double() * scale.double()[:, None] / draws
    step = float(scale)
    limit = 5 * 0.5 * step / draws**0.5
    assert float((mean - x.double()).abs().max()) < limit
    nearest = (x / step).round() * step
    assert float((nearest - x).abs().max()) > limit


def test_int8_rows_are_added_with_their_scale(kernels: Kernels) -> None:
    x, index = torch.randn(6, 40), torch.tensor([0, 3, 0, 5, 1, 1])
    codes, scale = kernels.pack_int8(x, None, 5)
    out = torch.randn(7, 40)
    wanted = out.clone()
    for place in range(6):
        wanted[index[place]] += codes[place].float() * scale[place]
    kernels.scatter_add_rows(out, index, codes, scale=scale)
    assert torch.equal(out, wanted)


def test_scatter_is_the_same_for_any_threads(compiled: Kernels) -> None:
    index, rows = torch.randint(50, (2_000,)), torch.randn(2_000, 100)
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            out = torch.zeros(50, 100)
            compiled.scatter_add_rows(out, index, rows)
            results.append(out)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
