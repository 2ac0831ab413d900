"""Row sums of a block, and the sums that split rows wait for.

A program sums the arcs of a few segments (row_schedule.py), several arcs of each at once, in float32 or in
float64 where the rows are; the order of a row's arcs in its sum follows from the block alone.

Shapes:
    R rows   C columns of the block   E arcs   F features   S slots
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.triton import tiles
from bnsgcn.kernels.triton.bits import as_kept
from bnsgcn.kernels.triton.row_schedule import RowSchedule, Segments


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What rows of this dtype are summed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@triton.jit
def segments_here(start_ptr, stop_ptr, row_ptr, segments, ROWS: tl.constexpr):
    """(number, first arc, arcs, row) of this program's segments: [ROWS] each."""
    number = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = number < segments
    start = tl.load(start_ptr + number, mask=there, other=0)
    arcs = tl.load(stop_ptr + number, mask=there, other=0) - start
    return number, start, arcs, tl.load(row_ptr + number, mask=there, other=-1)


@triton.jit(do_not_specialize=["segments"])
def _sum_segments(
    start_ptr, stop_ptr, row_ptr, slot_ptr, segments, indices_ptr, weights_ptr, x_ptr, x_stride,
    row_scale_ptr, col_scale_ptr, out_ptr, out_stride, slots_ptr, features,
    ADD: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, ARCS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    number, start, arcs, row = segments_here(start_ptr, stop_ptr, row_ptr, segments, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < features
    partial = tl.zeros((ARCS, ROWS, BLOCK), SUM)
    for first in range(0, tl.max(arcs, axis=0), ARCS):
        nth = first + tl.arange(0, ARCS)
        there, arc = nth[:, None] < arcs[None, :], start[None, :] + nth[:, None]
        place = arc
        if indices_ptr is not None:
            place = tl.load(indices_ptr + arc, mask=there, other=0)
        offset = place.to(tl.int64) * x_stride if WIDE else place * x_stride
        entries = x_ptr + offset[:, :, None] + column[None, None, :]
        rows = tl.load(entries, mask=there[:, :, None] & inside[None, None, :], other=0).to(SUM)
        if weights_ptr is not None:
            weight = tl.load(weights_ptr + arc, mask=there, other=0).to(SUM)
            if col_scale_ptr is not None:
                weight *= tl.load(col_scale_ptr + place, mask=there, other=0).to(SUM)
            rows *= weight[:, :, None]
        elif col_scale_ptr is not None:
            rows *= tl.load(col_scale_ptr + place, mask=there, other=0).to(SUM)[:, :, None]
        partial += rows
    total = tl.sum(partial, axis=0)
    whole = row >= 0
    if slot_ptr is not None:
        slot = tl.load(slot_ptr + number, mask=number < segments, other=-1)
        whole = whole & (slot < 0)
        waiting = slot.to(tl.int64) * features if WIDE else slot * features
        entries = slots_ptr + waiting[:, None] + column[None, :]
        tl.store(entries, total, mask=(slot >= 0)[:, None] & inside[None, :])
    if row_scale_ptr is not None:
        total *= tl.load(row_scale_ptr + row, mask=whole, other=0).to(SUM)[:, None]
    offset = row.to(tl.int64) * out_stride if WIDE else row * out_stride
    entries = out_ptr + offset[:, None] + column[None, :]
    kept = whole[:, None] & inside[None, :]
    if ADD:
        total += tl.load(entries, mask=kept, other=0).to(SUM)
    tl.store(entries, as_kept(total, out_ptr.dtype.element_ty), mask=kept)


def sum_rows(
    schedule: RowSchedule,
    csr: Csr,
    x: Tensor,
    out: Tensor,
    *,
    add: bool,
    row_scale: Tensor | None,
    col_scale: Tensor | None,
) -> None:
    """out (+)= row_scale * sum over the arcs of weight * col_scale * x; rows of x and out are contiguous."""
    slots = waiting_sums(schedule, x.shape[1], x)
    scales = {"row_scale": row_scale, "col_scale": col_scale}
    _sum(schedule.segments, csr.indices, csr.weights, x, out, slots, add=add, **scales)
    add_waiting(schedule, slots, out, add=add, row_scale=row_scale)


def waiting_sums(schedule: RowSchedule, features: int, x: Tensor) -> Tensor | None:
    """Room for the sums of split rows' segments: [S, F]; None where no row is split."""
    if schedule.split is None:
        return None
    return torch.empty(schedule.slots, features, dtype=sum_dtype(x.dtype), device=x.device)


def add_waiting(
    schedule: RowSchedule,
    slots: Tensor | None,
    out: Tensor,
    *,
    add: bool = False,
    row_scale: Tensor | None = None,
) -> None:
    """out (+)= row_scale * the sum of a row's slots [S, F], of rows that are split."""
    if schedule.split is not None and slots is not None:
        _sum(schedule.split, None, None, slots, out, None, add=add, row_scale=row_scale, col_scale=None)


def _sum(
    segments: Segments,
    indices: Tensor | None,
    weights: Tensor | None,
    x: Tensor,
    out: Tensor,
    slots: Tensor | None,
    *,
    add: bool,
    row_scale: Tensor | None,
    col_scale: Tensor | None,
) -> None:
    tile = tiles.sum_tile(x.shape[1], x.dtype)
    tiles.launch(
        _sum_segments,
        (tiles.parts(len(segments), tile.rows), tiles.parts(x.shape[1], tile.columns)),
        *(segments.start, segments.stop, segments.row, segments.slot, len(segments)),
        *(indices, weights, x, x.stride(0), row_scale, col_scale, out, out.stride(0), slots, x.shape[1]),
        tile=tile,
        ADD=add,
        WIDE=tiles.is_wide(x, out, slots),
        ROWS=tile.rows,
        ARCS=tile.arcs,
        BLOCK=tile.columns,
    )
