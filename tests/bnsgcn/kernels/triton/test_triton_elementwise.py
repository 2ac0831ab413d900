"""Dropout and the fused passes: bitwise the masks of torch's kernels on CPU, and their numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnsgcn.kernels import Kernels, LayerNorm, Mask, autograd, random_bits

KEY = random_bits.key(0, 1, 2, random_bits.Stream.DROPOUT)
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 3e-2}


def mask_of(rows: int, p: float, device: torch.device) -> Mask:
    return Mask((torch.arange(rows) * 37 + 2**33).to(device), KEY, p)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "features"), [(6, 33), (3, 600), (1, 1), (0, 4)])
def test_masks_have_the_bits_of_torchs(
    kernels: Kernels,
    reference: Kernels,
    device: torch.device,
    rows: int,
    features: int,
    dtype: torch.dtype,
) -> None:
    cpu, x = torch.device("cpu"), torch.randn(rows, features).to(dtype)
    for p in (0.0, 0.3):
        ours, theirs = mask_of(rows, p, device), mask_of(rows, p, cpu)
        assert torch.equal(kernels.dropout(x.to(device), ours).cpu(), reference.dropout(x, theirs))
        dropped = reference.relu_dropout(x, theirs)
        in_place = x.to(device, copy=True)
        assert kernels.relu_dropout(in_place, ours, out=in_place) is in_place
        assert torch.equal(in_place.cpu(), dropped)
        grad = torch.randn(rows, features).to(dtype)
        back = kernels.relu_dropout_backward(grad.to(device), in_place, p)
        assert torch.equal(back.cpu(), reference.relu_dropout_backward(grad, dropped, p))


@pytest.mark.parametrize("key", [0, 1, -1, 2**62 + 16, -(2**63)])
def test_masks_of_every_key(kernels: Kernels, device: torch.device, key: int) -> None:
    ids = torch.tensor([0, 1, 2**31, 2**40 + 5])
    kept = kernels.dropout(torch.ones(4, 70, device=device), Mask(ids.to(device), key, 0.4)).cpu() != 0
    assert torch.equal(kept, random_bits.keep_mask(key, ids, 70, 0.4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "features", "affine"), [(9, 35, True), (5, 3, False), (2, 520, True)])
@pytest.mark.parametrize("p", [0.0, 0.5])
def test_norm_relu_dropout(
    kernels: Kernels,
    reference: Kernels,
    device: torch.device,
    rows: int,
    features: int,
    affine: bool,
    p: float,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(2)
    x, grad = torch.randn(rows, features).to(dtype), torch.randn(rows, features).to(dtype)
    given = [torch.randn(features).to(dtype) if affine else None for _ in range(2)]
    wide = LayerNorm(*(None if one is None else one.double() for one in given))
    norm = LayerNorm(*(None if one is None else one.to(device) for one in given))
    cpu, mask = mask_of(rows, p, torch.device("cpu")), mask_of(rows, p, device)
    out, moments = kernels.norm_relu_dropout(x.to(device), norm, mask)
    grads = kernels.norm_relu_dropout_backward(grad.to(device), x.to(device), moments, norm, mask)
    wanted, theirs = reference.norm_relu_dropout(x.double(), wide, cpu)
    wanted_grads = reference.norm_relu_dropout_backward(grad.double(), x.double(), theirs, wide, cpu)
    assert out.dtype == grads[0].dtype == dtype
    for one, other in zip([out, *moments, *grads], [wanted, *theirs, *wanted_grads], strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            tolerance = TOLERANCE[dtype] * max(1.0, float(other.abs().max()))
            torch.testing.assert_close(one.cpu().double(), other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("p", "affine"), [(0.5, True), (0.0, False)])
def test_gradients(kernels: Kernels, device: torch.device, p: float, affine: bool) -> None:
    torch.manual_seed(3)
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
        for shape in ((2, 6), (6,), (6,))
    )
    mask = mask_of(2, p, device)
    leaves = (x, weight, bias) if affine else (x,)

    def fused(*leaves: Tensor) -> Tensor:
        return autograd.norm_relu_dropout(kernels, leaves[0], LayerNorm(*leaves[1:]), mask)

    assert torch.autograd.gradcheck(fused, leaves, fast_mode=True)
    assert torch.autograd.gradcheck(lambda y: autograd.relu_dropout(kernels, y, mask), (x,), fast_mode=True)
    assert torch.autograd.gradcheck(lambda y: autograd.dropout(kernels, y, mask), (x,), fast_mode=True)


def test_weight_gradients_of_many_programs(
    kernels: Kernels, reference: Kernels, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program takes several tiles of rows, and there are several programs."""
    from bnsgcn.kernels.triton import fused_norm

    monkeypatch.setattr(fused_norm, "_PROGRAMS", 3)
    x, grad = torch.randn(40, 300), torch.randn(40, 300)
    norm, mask = LayerNorm(torch.rand(300), torch.rand(300)), mask_of(40, 0.5, torch.device("cpu"))
    _, moments = reference.norm_relu_dropout(x, norm, mask)
    wanted = reference.norm_relu_dropout_backward(grad, x, moments, norm, mask)
    there = LayerNorm(*(one.to(device) for one in (norm.weight, norm.bias) if one is not None))
    moved = type(moments)(*(one.to(device) for one in moments))
    given = grad.to(device), x.to(device), moved, there, mask_of(40, 0.5, device)
    first, again = (kernels.norm_relu_dropout_backward(*given) for _ in range(2))
    for one, other, same in zip(first, wanted, again, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, same)  # type: ignore[arg-type]
        torch.testing.assert_close(one.cpu(), other, atol=1e-4, rtol=1e-4)


def test_one_id_for_each_row(kernels: Kernels, device: torch.device) -> None:
    with pytest.raises(ValueError, match="4 node ids for 5 rows"):
        kernels.dropout(torch.randn(5, 8, device=device), mask_of(4, 0.5, device))
