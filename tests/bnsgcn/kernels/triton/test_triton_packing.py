"""Rows by index and the wire's number formats: bitwise as torch's kernels on CPU."""

from __future__ import annotations

import pytest
import torch

from bnsgcn.kernels import Kernels, random_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("features", [1, 5, 33, 600])
def test_gather_and_scatter(
    kernels: Kernels, device: torch.device, dtype: torch.dtype, features: int
) -> None:
    torch.manual_seed(0)
    x, index = torch.randn(7, features).to(dtype), torch.randint(7, (11,))
    scale, rows = torch.rand(11).to(dtype), torch.randn(11, features).to(dtype)
    gathered = kernels.gather_rows(x.to(device), index.to(device), scale=scale.to(device))
    assert torch.equal(gathered.cpu(), x[index] * scale[:, None])
    half = torch.empty(11, features, dtype=torch.bfloat16, device=device)
    kernels.gather_rows(x.to(device), index.to(device), out=half)
    assert torch.equal(half.cpu(), x[index].bfloat16())
    out = torch.randn(7, features).to(dtype)
    wide, total = (torch.float32 if dtype == torch.bfloat16 else dtype), out.clone()
    total = total.to(wide)
    for place in range(11):  # one after another: what a repeated row must add up to, bit for bit
        total[index[place]] += rows[place].to(wide) * scale[place].to(wide)
    result = out.to(device)
    kernels.scatter_add_rows(result, index.to(device), rows.to(device), scale=scale.to(device))
    assert torch.equal(result.cpu(), total.to(dtype))


def test_scatter_of_narrow_rows(kernels: Kernels, device: torch.device) -> None:
    index, rows = torch.tensor([1, 4, 1, 0]), torch.randn(4, 33)
    for dtype in (torch.bfloat16, torch.float16):
        out = torch.randn(6, 33)
        wanted = out.clone().index_add_(0, index, rows.to(dtype).float())
        result = out.to(device)
        kernels.scatter_add_rows(result, index.to(device), rows.to(dtype).to(device))
        assert torch.equal(result.cpu(), wanted)


def test_an_index_that_is_written_to_is_sorted_again(kernels: Kernels, device: torch.device) -> None:
    out, index = torch.zeros(3, 2, device=device), torch.tensor([0, 1], device=device)
    kernels.scatter_add_rows(out, index, torch.ones(2, 2, device=device))
    index[0] = 2
    kernels.scatter_add_rows(out, index, torch.ones(2, 2, device=device))
    assert out[:, 0].tolist() == [1, 2, 1]


def test_nothing_is_gathered_from_nothing(kernels: Kernels, device: torch.device) -> None:
    none = torch.empty(0, dtype=torch.int64, device=device)
    out = torch.ones(3, 4, device=device)
    assert kernels.gather_rows(out, none).shape == (0, 4)
    kernels.scatter_add_rows(out, none, out[:0])
    assert bool((out == 1).all())
    assert [piece.shape for piece in kernels.pack_int8(out, none, 3)] == [(0, 4), (0,)]


def test_rounding_to_bf16_is_torchs(kernels: Kernels, device: torch.device) -> None:
    words = torch.randint(-(2**31), 2**31 - 1, (60, 16)).int()
    x = torch.cat([words.view(torch.float32), torch.tensor([[torch.nan, torch.inf, -torch.inf, -0.0] * 4])])
    half = torch.empty(x.shape, dtype=torch.bfloat16, device=device)
    kernels.gather_rows(x.to(device), torch.arange(x.shape[0], device=device), out=half)
    assert torch.equal(half.cpu().isnan(), x.isnan())
    assert torch.equal(half.cpu().nan_to_num(), x.bfloat16().nan_to_num())


@pytest.mark.parametrize(("rows", "features"), [(9, 1), (9, 33), (4, 700), (0, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_have_the_bits_of_torchs(
    kernels: Kernels, reference: Kernels, device: torch.device, rows: int, features: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    x = torch.randn(rows, features)
    if rows:
        x = x * torch.logspace(-20, 15, rows)[:, None]
    x[1::4] = 0
    x[3::4, :1] *= 1e9  # beside it the others are next to nothing
    x = x.to(dtype)
    index = torch.randint(rows, (2 * rows,)) if rows else None
    for key, top in ((3, 7), (random_bits.key(5, 6, 7, random_bits.Stream.FEATURE_ROUNDING), 127)):
        ours = kernels.pack_int8(x.to(device), None if index is None else index.to(device), key, top)
        for one, other in zip(ours, reference.pack_int8(x, index, key, top), strict=True):
            assert torch.equal(one.cpu(), other)


@pytest.mark.gpu
def test_int8_has_the_bits_of_torchs_in_millions(
    kernels: Kernels, reference: Kernels, device: torch.device
) -> None:
    """What one rounding too many changes is a code in a million."""
    if device.type == "cpu":
        pytest.skip("millions: on a GPU only")
    x = torch.randn(200_000, 33, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        kernels.pack_int8(x.to(device), None, 4), reference.pack_int8(x, None, 4), strict=True
    ):
        assert torch.equal(one.cpu(), other)


def test_int8_rows_are_added_with_their_scale(
    kernels: Kernels, reference: Kernels, device: torch.device
) -> None:
    codes, scale = reference.pack_int8(torch.randn(6, 40), None, 5)
    index, out = torch.tensor([0, 3, 0, 5, 1, 1]), torch.randn(7, 40)
    wanted = out.clone()
    for place in range(6):
        wanted[index[place]] += codes[place].float() * scale[place]
    result = out.to(device)
    kernels.scatter_add_rows(result, index.to(device), codes.to(device), scale=scale.to(device))
    assert torch.equal(result.cpu(), wanted)


def test_the_scale_of_a_row_that_is_not_finite_is_nan(kernels: Kernels, device: torch.device) -> None:
    x = torch.ones(4, 40, device=device)
    x[1, 3], x[2, 39] = torch.nan, -torch.inf
    assert kernels.pack_int8(x, None, 1)[1].isnan().tolist() == [False, True, True, False]
