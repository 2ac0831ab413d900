"""Dropout, ReLU with dropout and its backward: one pass over rows.

Shapes:
    N rows   F columns
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from bnsgcn.kernels.random_bits import Mask, keep_scale
from bnsgcn.kernels.triton import tiles
from bnsgcn.kernels.triton.bits import as_kept, entry_bits, halves, row_state


@triton.jit(do_not_specialize=["low", "high", "levels", "count"])
def _drop(
    x_ptr, node_ids_ptr, out_ptr, low, high, levels, count, features,
    SCALE: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = place < count
    kept = there[:, None] & (column < features)[None, :]
    entries = ((place.to(tl.int64) if WIDE else place) * features)[:, None] + column[None, :]
    x = tl.load(x_ptr + entries, mask=kept, other=0).to(SUM)
    low_half, high_half = row_state(low, high, tl.load(node_ids_ptr + place, mask=there, other=0))
    passes = entry_bits(low_half[:, None], high_half[:, None], column[None, :]) < levels
    if RELU:
        passes &= (x > 0) | (x != x)  # NaN passes
    result = tl.where(passes, x * SCALE, 0.0)
    tl.store(out_ptr + entries, as_kept(result, out_ptr.dtype.element_ty), mask=kept)


def drop(x: Tensor, mask: Mask, out: Tensor, *, relu: bool) -> None:
    """out = x * mask.scale where the mask keeps x (and x is above 0, with `relu`), else 0; contiguous."""
    tile = tiles.row_tile(x.shape[1])
    tiles.launch(
        _drop,
        (tiles.parts(x.shape[0], tile.rows), tiles.parts(x.shape[1], tile.columns)),
        *(x, mask.node_ids, out, *halves(mask.key), mask.levels, *x.shape),
        tile=tile,
        SCALE=mask.scale,
        RELU=relu,
        WIDE=tiles.is_wide(x),
        ROWS=tile.rows,
        BLOCK=tile.columns,
    )


@triton.jit(do_not_specialize=["count"])
def _relu_backward(
    grad_ptr, output_ptr, out_ptr, count, features,
    SCALE: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if grad_ptr.dtype.element_ty == tl.float64 else tl.float32
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = (place < count)[:, None] & (column < features)[None, :]
    entries = ((place.to(tl.int64) if WIDE else place) * features)[:, None] + column[None, :]
    grad = tl.load(grad_ptr + entries, mask=kept, other=0).to(SUM)
    output = tl.load(output_ptr + entries, mask=kept, other=0).to(SUM)
    result = tl.where(output <= 0, 0.0, grad * SCALE)
    tl.store(out_ptr + entries, as_kept(result, out_ptr.dtype.element_ty), mask=kept)


def relu_backward(grad: Tensor, output: Tensor, p: float, out: Tensor) -> None:
    """out = 0 where `output` is at most 0, else grad / keep; contiguous."""
    tile = tiles.row_tile(grad.shape[1])
    tiles.launch(
        _relu_backward,
        (tiles.parts(grad.shape[0], tile.rows), tiles.parts(grad.shape[1], tile.columns)),
        *(grad, output, out, *grad.shape),
        tile=tile,
        SCALE=keep_scale(p),
        WIDE=tiles.is_wide(grad),
        ROWS=tile.rows,
        BLOCK=tile.columns,
    )
