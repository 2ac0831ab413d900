"""NaN stays NaN and infinities do not become plausible numbers: every kernel of every backend, every input.

One entry of one input is replaced; what is finite in the result must be exactly what is finite in formulas of
torch's own operations, with autograd's gradients where there are such.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bnsgcn.kernels import Csr, Kernels, LayerNorm, Mask
from tests.bnsgcn.kernels.dense_blocks import random_block

ROWS, COLS, SLOPE = 9, 11, 0.2
POISONS = (torch.nan, torch.inf, -torch.inf)
Results = tuple[Tensor, ...]
per_backend = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One kernel: what it is given, what it does, and the same by torch."""

    inputs: tuple[Tensor, ...]
    ours: Callable[..., Results]
    theirs: Callable[..., Results]
    tolerance: float = 1e-3


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a case is made of."""

    kernels: Kernels
    dtype: torch.dtype
    width: int
    heads: int
    csr: Csr
    arcs: tuple[Tensor, Tensor]
    """Row and column of each arc."""

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape).to(self.dtype)


def added(rows: Tensor, values: Tensor, count: int) -> Tensor:
    """values [E, ...] summed by row: [count, ...]."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, rows, values)


def sum_rows(scene: Scene) -> Case:
    rows, cols = scene.arcs

    def ours(x: Tensor, row_scale: Tensor, col_scale: Tensor, out: Tensor) -> Results:
        scaled = {"row_scale": row_scale, "col_scale": col_scale}
        return scene.kernels.sum_rows(scene.csr, x), scene.kernels.sum_rows(scene.csr, x, **scaled, out=out)

    def theirs(x: Tensor, row_scale: Tensor, col_scale: Tensor, out: Tensor) -> Results:
        scaled = added(rows, (x * col_scale[:, None])[cols], ROWS) * row_scale[:, None]
        return added(rows, x[cols], ROWS), out + scaled

    width = scene.width
    given_ = scene.draw(COLS, width), scene.draw(ROWS), scene.draw(COLS), scene.draw(ROWS, width)
    return Case(given_, ours, theirs)


def sum_weighted_rows(scene: Scene) -> Case:
    rows, cols = scene.arcs
    weights = torch.rand(rows.numel())
    weights[::5] = 0
    csr = dataclasses.replace(scene.csr, weights=weights)

    def ours(x: Tensor, col_scale: Tensor) -> Results:
        return scene.kernels.sum_rows(csr, x), scene.kernels.sum_rows(csr, x, col_scale=col_scale)

    def theirs(x: Tensor, col_scale: Tensor) -> Results:
        weighted = x[cols] * weights[:, None].to(x.dtype)
        return added(rows, weighted, ROWS), added(rows, weighted * col_scale[cols][:, None], ROWS)

    return Case((scene.draw(COLS, scene.width), scene.draw(COLS)), ours, theirs)


def gather_rows(scene: Scene) -> Case:
    index = torch.randint(COLS, (ROWS,))

    def ours(x: Tensor, scale: Tensor) -> Results:
        halves = [torch.empty(ROWS, scene.width, dtype=dtype) for dtype in (torch.bfloat16, torch.float16)]
        for half in halves:
            scene.kernels.gather_rows(x, index, out=half)
        return scene.kernels.gather_rows(x, index, scale=scale), *halves

    def theirs(x: Tensor, scale: Tensor) -> Results:
        return x[index] * scale[:, None], x[index], x[index]

    return Case((scene.draw(COLS, scene.width), scene.draw(ROWS)), ours, theirs, tolerance=0.1)


def scatter_add_rows(scene: Scene) -> Case:
    index = torch.randint(COLS, (ROWS,))

    def ours(rows: Tensor, scale: Tensor, out: Tensor) -> Results:
        plain, half = out.clone(), out.clone()
        scene.kernels.scatter_add_rows(plain, index, rows, scale=scale)
        scene.kernels.scatter_add_rows(half, index, rows.bfloat16())
        return plain, half

    def theirs(rows: Tensor, scale: Tensor, out: Tensor) -> Results:
        return out.index_add(0, index, rows * scale[:, None]), out.index_add(0, index, rows)

    given_ = scene.draw(ROWS, scene.width), scene.draw(ROWS), scene.draw(COLS, scene.width)
    return Case(given_, ours, theirs, tolerance=0.1)


def pack_int8(scene: Scene) -> Case:
    """As int8 rows are read: a row is not finite as a whole."""
    index = torch.randint(COLS, (ROWS,))

    def ours(x: Tensor) -> Results:
        codes, scale = scene.kernels.pack_int8(x, index, 3)
        out = torch.zeros(ROWS, scene.width)
        scene.kernels.scatter_add_rows(out, torch.arange(ROWS), codes, scale=scale)
        return codes * scale[:, None], out

    def theirs(x: Tensor) -> Results:
        rows = torch.where(x.isfinite().all(1, keepdim=True), x, torch.nan)[index]
        return rows, rows

    return Case((scene.draw(COLS, scene.width),), ours, theirs, tolerance=0.1)


def masked(x: Tensor, mask: Mask) -> Tensor:
    return torch.where(mask.kept(x.shape[1]), x * mask.scale, 0.0)


def dropout(scene: Scene) -> Case:
    masks = [Mask(torch.arange(ROWS) * 5, 77, p) for p in (0.0, 0.5)]

    def ours(x: Tensor) -> Results:
        calls = scene.kernels.dropout, scene.kernels.relu_dropout
        return tuple(call(x, mask) for call in calls for mask in masks)

    def theirs(x: Tensor) -> Results:
        return tuple(masked(y, mask) for y in (x, torch.relu(x)) for mask in masks)

    return Case((scene.draw(ROWS, scene.width),), ours, theirs)


def relu_dropout_backward(scene: Scene) -> Case:
    def ours(grad: Tensor, output: Tensor) -> Results:
        return (scene.kernels.relu_dropout_backward(grad, output, 0.5),)

    def theirs(grad: Tensor, output: Tensor) -> Results:
        leaf = output.clone().requires_grad_()
        return torch.autograd.grad(torch.relu(leaf) * 2, leaf, grad)

    return Case((scene.draw(ROWS, scene.width), scene.draw(ROWS, scene.width)), ours, theirs)


def norm_relu_dropout(scene: Scene, p: float = 0.5) -> Case:
    mask = Mask(torch.arange(ROWS) * 3, 8, p)

    def ours(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Results:
        norm = LayerNorm(weight, bias)
        result, moments = scene.kernels.norm_relu_dropout(x, norm, mask)
        return result, *scene.kernels.norm_relu_dropout_backward(grad, x, moments, norm, mask)

    def theirs(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Results:
        leaves = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
        result = masked(torch.relu(F.layer_norm(leaves[0], (scene.width,), *leaves[1:], 1e-5)), mask)
        return result.detach(), *torch.autograd.grad(result, leaves, grad)

    width = scene.width
    given_ = scene.draw(ROWS, width), scene.draw(width), scene.draw(width), scene.draw(ROWS, width)
    return Case(given_, ours, theirs, tolerance=0.05)


def norm_relu(scene: Scene) -> Case:
    return norm_relu_dropout(scene, p=0.0)


def row_max(scene: Scene) -> Case:
    rows, cols = scene.arcs

    def theirs(x: Tensor) -> Results:
        seen = torch.zeros(ROWS, COLS, dtype=torch.bool)
        seen[rows, cols] = True
        return (torch.where(seen[:, :, None], x, -torch.inf).amax(1),)

    return Case((scene.draw(COLS, scene.heads),), lambda x: (scene.kernels.row_max(scene.csr, x),), theirs)


def attention(scene: Scene) -> Case:
    heads, width = scene.heads, scene.width
    rows, cols = scene.arcs

    def ours(
        dst: Tensor, src: Tensor, x: Tensor, shift: Tensor, grad_sum: Tensor, grad_weight: Tensor
    ) -> Results:
        forward = scene.kernels.attention_sum(scene.csr, dst, src, x, shift, SLOPE)
        backward = scene.kernels.attention_sum_backward(
            scene.csr, scene.kernels.transpose(scene.csr), dst, src, x, shift, SLOPE, grad_sum, grad_weight
        )
        return *forward, *backward

    def theirs(
        dst: Tensor, src: Tensor, x: Tensor, shift: Tensor, grad_sum: Tensor, grad_weight: Tensor
    ) -> Results:
        scores = dst[rows] + src[cols]
        weights = torch.exp(F.leaky_relu(scores, SLOPE) - shift[rows])
        slopes = torch.where(scores <= 0, SLOPE, 1.0)
        towards = weights * slopes * (grad_weight[rows] + (grad_sum[rows] * x[cols]).sum(2))
        return (
            added(rows, weights[:, :, None] * x[cols], ROWS),
            added(rows, weights, ROWS),
            added(rows, towards, ROWS),
            added(cols, towards, COLS),
            added(cols, weights[:, :, None] * grad_sum[rows], COLS),
        )

    scores = scene.draw(ROWS, heads), scene.draw(COLS, heads), scene.draw(COLS, heads, width)
    grads = scene.draw(ROWS, heads), scene.draw(ROWS, heads, width), scene.draw(ROWS, heads)
    return Case((*scores, *grads), ours, theirs, tolerance=0.05)


KERNELS = [
    sum_rows, sum_weighted_rows, gather_rows, scatter_add_rows, pack_int8, dropout, relu_dropout_backward,
    norm_relu_dropout, norm_relu, row_max, attention,
]  # fmt: skip


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return torch.allclose(one, other, atol=tolerance, rtol=tolerance)


def differences(case: Case, name: int, entry: int, poison: float) -> list[str]:
    """Where results with one entry replaced are not what torch makes of it."""
    inputs = [tensor.clone() for tensor in case.inputs]
    inputs[name].view(-1)[entry % inputs[name].numel()] = poison
    theirs = case.theirs(*(tensor.double() for tensor in inputs))
    found = []
    for number, (one, other) in enumerate(zip(case.ours(*inputs), theirs, strict=True)):
        finite = other.isfinite()
        if not torch.equal(one.isfinite(), finite):
            found.append(f"result {number}: {one} instead of {other}")
        elif not close(one.double()[finite], other[finite], case.tolerance):
            found.append(f"result {number}: {one} is far from {other}")
    return found


def scene_of(kernels: Kernels, dtype: torch.dtype, width: int, heads: int, seed: int) -> Scene:
    torch.manual_seed(seed)
    csr, _ = random_block(ROWS, COLS, 0.4, seed)
    return Scene(kernels, dtype, width, heads, csr, (csr.row_ids().long(), csr.indices.long()))


@pytest.mark.parametrize("make", KERNELS)
@per_backend
@given(
    poison=st.sampled_from(POISONS),
    name=st.integers(0, 5),
    entry=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    width=st.sampled_from([3, 5, 16, 33, 64, 130]),
    heads=st.sampled_from([1, 3, 4, 8]),
    seed=st.integers(0, 20),
)
def test_what_is_not_finite_stays_so(
    kernels: Kernels,
    make: Callable[[Scene], Case],
    poison: float,
    name: int,
    entry: int,
    dtype: torch.dtype,
    width: int,
    heads: int,
    seed: int,
) -> None:
    case = make(scene_of(kernels, dtype, width, heads, seed))
    assert not differences(case, name % len(case.inputs), entry, poison)


def test_the_comparison_notices_a_number_made_of_nan() -> None:
    case = Case((torch.ones(3),), lambda x: (torch.relu(x).nan_to_num(),), lambda x: (torch.relu(x),))
    assert differences(case, 0, 1, torch.nan)
    assert not differences(case, 0, 1, 1.0)


def test_what_a_mask_drops_is_zero(kernels: Kernels) -> None:
    x, mask = torch.full((50, 40), torch.nan), Mask(torch.arange(50), 9, 0.5)
    kept = mask.kept(40)
    for dropped in (kernels.dropout(x, mask), kernels.relu_dropout(x, mask)):
        assert torch.equal(dropped.isnan(), kept)
        assert torch.equal(dropped == 0, ~kept)
    normed, _ = kernels.norm_relu_dropout(x, LayerNorm(), mask)
    assert torch.equal(normed.isnan(), kept)


def test_the_scale_of_a_row_that_is_not_finite_is_nan(kernels: Kernels) -> None:
    x = torch.ones(4, 40)
    x[1, 3], x[2, 39] = torch.nan, -torch.inf
    _, scale = kernels.pack_int8(x, None, 1)
    assert scale.isnan().tolist() == [False, True, True, False]
