"""Layer norm, ReLU and dropout in one pass each way; a program holds its rows as a whole.

    forward    m, s the mean and the deviation's reciprocal; n = (x - m) s; out = drop(relu(n weight + bias))
    backward   g the gradient where the mask and the ReLU let it pass, v = g weight:
               (v - mean(v) - n mean(v n)) s;   sum over rows of g n;   sum over rows of g

Shapes:
    N rows   F columns   P programs of the backward
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bnsgcn.kernels.protocol import LayerNorm, Moments
from bnsgcn.kernels.random_bits import LEVELS, Mask
from bnsgcn.kernels.triton import tiles
from bnsgcn.kernels.triton.bits import as_kept, entry_bits, halves, row_state

_PROGRAMS = 2048
"""Of a backward, about: so many partial sums of the gradients of weight and bias."""


@triton.jit
def _normed(x_ptr, place, mean, rstd, entries, kept, SUM: tl.constexpr):
    """(x - mean) rstd, 0 outside the row."""
    x = tl.load(x_ptr + entries, mask=kept, other=0).to(SUM)
    return tl.where(kept, (x - mean[:, None]) * rstd[:, None], 0.0)


@triton.jit
def _affine(normed, weight_ptr, bias_ptr, column, inside, SUM: tl.constexpr):
    """normed * weight + bias, of those that there are."""
    if weight_ptr is not None:
        normed *= tl.load(weight_ptr + column, mask=inside, other=0).to(SUM)[None, :]
    if bias_ptr is not None:
        normed += tl.load(bias_ptr + column, mask=inside, other=0).to(SUM)[None, :]
    return normed


@triton.jit
def _passes(values, node_ids_ptr, low, high, levels, place, there, column, DROPS: tl.constexpr):
    """Where the ReLU and the mask let through: [ROWS, BLOCK]."""
    passes = (values > 0) | (values != values)  # NaN passes
    if DROPS:
        node_ids = tl.load(node_ids_ptr + place, mask=there, other=0)
        state_low, state_high = row_state(low, high, node_ids)
        passes &= entry_bits(state_low[:, None], state_high[:, None], column[None, :]) < levels
    return passes


@triton.jit(do_not_specialize=["low", "high", "levels", "count"])
def _forward(
    x_ptr, weight_ptr, bias_ptr, node_ids_ptr, out_ptr, mean_ptr, rstd_ptr, low, high, levels, count,
    features, EPS: tl.constexpr, SCALE: tl.constexpr, DROPS: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    there, inside = place < count, column < features
    kept = there[:, None] & inside[None, :]
    entries = ((place.to(tl.int64) if WIDE else place) * features)[:, None] + column[None, :]
    x = tl.load(x_ptr + entries, mask=kept, other=0).to(SUM)
    mean = tl.sum(x, axis=1) / features
    centred = tl.where(kept, x - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / features
    rstd = 1.0 / tl.sqrt(variance + EPS)
    tl.store(mean_ptr + place, mean, mask=there)
    tl.store(rstd_ptr + place, rstd, mask=there)
    values = _affine(centred * rstd[:, None], weight_ptr, bias_ptr, column, inside, SUM)
    passes = _passes(values, node_ids_ptr, low, high, levels, place, there, column, DROPS)
    result = tl.where(passes, values * SCALE, 0.0)
    tl.store(out_ptr + entries, as_kept(result, out_ptr.dtype.element_ty), mask=kept)


@triton.jit(do_not_specialize=["low", "high", "levels", "count", "chunk"])
def _backward(
    grad_ptr, x_ptr, mean_ptr, rstd_ptr, weight_ptr, bias_ptr, node_ids_ptr, out_ptr, grad_weight_ptr,
    grad_bias_ptr, low, high, levels, count, chunk, features,
    SCALE: tl.constexpr, DROPS: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    program, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < features
    for_weight = tl.zeros((ROWS, BLOCK), SUM)
    for_bias = tl.zeros((ROWS, BLOCK), SUM)
    for first in range(0, chunk, ROWS):
        place = program * chunk + first + tl.arange(0, ROWS)
        there = place < count
        kept = there[:, None] & inside[None, :]
        entries = ((place.to(tl.int64) if WIDE else place) * features)[:, None] + column[None, :]
        mean = tl.load(mean_ptr + place, mask=there, other=0).to(SUM)
        rstd = tl.load(rstd_ptr + place, mask=there, other=0).to(SUM)
        normed = _normed(x_ptr, place, mean, rstd, entries, kept, SUM)
        values = _affine(normed, weight_ptr, bias_ptr, column, inside, SUM)
        passes = _passes(values, node_ids_ptr, low, high, levels, place, there, column, DROPS)
        grad = tl.load(grad_ptr + entries, mask=kept, other=0).to(SUM)
        grad = tl.where(passes & kept, grad * SCALE, 0.0)
        if grad_weight_ptr is not None:
            for_weight += grad * normed
        if grad_bias_ptr is not None:
            for_bias += grad
        if weight_ptr is not None:
            grad *= tl.load(weight_ptr + column, mask=inside, other=0).to(SUM)[None, :]
        level = tl.sum(grad, axis=1) / features
        slant = tl.sum(grad * normed, axis=1) / features
        result = (grad - level[:, None] - normed * slant[:, None]) * rstd[:, None]
        tl.store(out_ptr + entries, as_kept(result, out_ptr.dtype.element_ty), mask=kept)
    own = (program.to(tl.int64) if WIDE else program) * features + column
    if grad_weight_ptr is not None:
        tl.store(grad_weight_ptr + own, tl.sum(for_weight, axis=0), mask=inside)
    if grad_bias_ptr is not None:
        tl.store(grad_bias_ptr + own, tl.sum(for_bias, axis=0), mask=inside)


def norm_forward(x: Tensor, norm: LayerNorm, mask: Mask, out: Tensor, moments: Moments) -> None:
    """out = dropout(relu(layer_norm(x))), and the moments; all contiguous."""
    tile = tiles.whole_row_tile(x.shape[1])
    tiles.launch(
        _forward,
        (tiles.parts(x.shape[0], tile.rows),),
        *(x, norm.weight, norm.bias, mask.node_ids, out, *moments),
        *(*halves(mask.key), mask.levels, *x.shape),
        tile=tile,
        EPS=norm.eps,
        **_constants(x, mask, tile),
    )


def norm_backward(
    grad: Tensor, x: Tensor, moments: Moments, norm: LayerNorm, mask: Mask, out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """out = gradient of x; returns those of weight and bias. The rows' sums have a fixed order."""
    tile, rows = tiles.whole_row_tile(x.shape[1]), x.shape[0]
    chunk = tile.rows * max(1, tiles.parts(rows, tile.rows * _PROGRAMS))
    programs = tiles.parts(rows, chunk)
    dtype = moments.mean.dtype
    sums = [
        None if given is None else torch.zeros(programs, x.shape[1], dtype=dtype, device=x.device)
        for given in (norm.weight, norm.bias)
    ]
    tiles.launch(
        _backward,
        (programs,),
        *(grad, x, *moments, norm.weight, norm.bias, mask.node_ids, out, *sums),
        *(*halves(mask.key), mask.levels, rows, chunk, x.shape[1]),
        tile=tile,
        **_constants(x, mask, tile),
    )
    return _summed(sums[0], norm.weight), _summed(sums[1], norm.bias)


def _summed(sums: Tensor | None, given: Tensor | None) -> Tensor | None:
    return None if sums is None or given is None else sums.sum(0).to(given.dtype)


def _constants(x: Tensor, mask: Mask, tile: tiles.Tile) -> dict[str, float]:
    return {
        "SCALE": mask.scale,
        "DROPS": mask.levels < LEVELS,
        "WIDE": tiles.is_wide(x),
        "ROWS": tile.rows,
        "BLOCK": tile.columns,
    }
