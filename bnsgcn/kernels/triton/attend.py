"""Attention over a block: weighted sums, their gradients and the largest score of a row.

A program works on one head of a few segments (row_schedule.py); an arc's weight is computed where it is used
and never stored. No product of two rows is taken per arc: with w the weights, s their slopes, x the sources'
rows, g and q the gradients of the sum and of the weight:

    forward        sum[r] = sum_c w x[c]                  weight[r] = sum_c w
    destinations   dst[r] = <g[r], sum_c s w x[c]> + q[r] sum_c s w
    sources        x'[c] = sum_r w g[r]                   src[c] = <x[c], sum_r s w g[r]> + sum_r s w q[r]

All are sums over arcs once g[r] or x[c] is multiplied with a segment's own sum, so split rows wait in slots.

Shapes:
    R rows   C columns of the block   h heads   d features of a head   S slots
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.triton import row_sums, tiles
from bnsgcn.kernels.triton.bits import as_kept
from bnsgcn.kernels.triton.row_schedule import RowSchedule, Segments
from bnsgcn.kernels.triton.row_sums import segments_here

FORWARD, DESTINATIONS, SOURCES = range(3)
_FORWARD, _DESTINATIONS, _SOURCES = (tl.constexpr(kind) for kind in (FORWARD, DESTINATIONS, SOURCES))


@triton.jit
def _weigh(own, others, shift, there, SLOPE: tl.constexpr):
    """(weights, weights times slopes) of arcs [A, R]; 0 where there is no arc."""
    score = own + others
    weight = tl.where(there, tl.exp(tl.where(score > 0, score, score * SLOPE) - shift), 0.0)
    return weight, tl.where(score > 0, weight, weight * SLOPE)


@triton.jit
def _store(out_ptr, out_score_ptr, place, there, total, score, column, width, KIND: tl.constexpr):
    """Keep rows' sums [R, D], of kinds that have them, and scores [R]."""
    tl.store(out_score_ptr + place, as_kept(score, out_score_ptr.dtype.element_ty), mask=there)
    if KIND != _DESTINATIONS:
        entries = out_ptr + (place * width)[:, None] + column[None, :]
        kept = there[:, None] & (column < width)[None, :]
        tl.store(entries, as_kept(total, out_ptr.dtype.element_ty), mask=kept)


@triton.jit(do_not_specialize=["segments"])
def _attend_segments(
    start_ptr, stop_ptr, row_ptr, slot_ptr, segments, indices_ptr, own_score_ptr, score_ptr, x_ptr, shift_ptr,
    grad_weight_ptr, own_x_ptr, out_ptr, out_score_ptr, slots_ptr, slot_scores_ptr, heads, width,
    SLOPE: tl.constexpr, KIND: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, ARCS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    number, start, arcs, row = segments_here(start_ptr, stop_ptr, row_ptr, segments, ROWS)
    head, column = tl.program_id(1), tl.arange(0, BLOCK)
    known, filled = row >= 0, arcs > 0
    own_place = (row.to(tl.int64) if WIDE else row) * heads + head
    own_score = tl.load(own_score_ptr + own_place, mask=known, other=0).to(SUM)
    shift = tl.zeros((1, ROWS), SUM)
    if KIND != _SOURCES:
        shift += tl.load(shift_ptr + own_place, mask=known, other=0).to(SUM)[None, :]
    partial = tl.zeros((ARCS, ROWS, BLOCK), SUM)
    second = tl.zeros((ARCS, ROWS, BLOCK), SUM) if KIND == _SOURCES else 0
    scores = tl.zeros((ARCS, ROWS), SUM)
    for first in range(0, tl.max(arcs, axis=0), ARCS):
        nth = first + tl.arange(0, ARCS)
        there, arc = nth[:, None] < arcs[None, :], start[None, :] + nth[:, None]
        index = tl.load(indices_ptr + arc, mask=there, other=0)
        place = (index.to(tl.int64) if WIDE else index) * heads + head
        score = tl.load(score_ptr + place, mask=there, other=0).to(SUM)
        if KIND == _SOURCES:
            arc_shift = tl.load(shift_ptr + place, mask=there, other=0).to(SUM)
            weight, slanted = _weigh(own_score[None, :], score, arc_shift, there, SLOPE)
            scores += slanted * tl.load(grad_weight_ptr + place, mask=there, other=0).to(SUM)
        else:
            weight, slanted = _weigh(own_score[None, :], score, shift, there, SLOPE)
            scores += weight if KIND == _FORWARD else slanted
        entries = x_ptr + (place * width)[:, :, None] + column[None, None, :]
        kept = there[:, :, None] & (column < width)[None, None, :]
        rows = tl.load(entries, mask=kept, other=0).to(SUM)
        if KIND == _DESTINATIONS:
            partial += slanted[:, :, None] * rows
        else:
            partial += weight[:, :, None] * rows
        if KIND == _SOURCES:
            second += slanted[:, :, None] * rows
    total, score = tl.sum(partial, axis=0), tl.sum(scores, axis=0)
    kept = known[:, None] & (column < width)[None, :]
    if KIND != _FORWARD:  # what is multiplied with no sum may be NaN
        own_entries = own_x_ptr + (own_place * width)[:, None] + column[None, :]
        own_x = tl.load(own_entries, mask=kept & filled[:, None], other=0).to(SUM)
        if KIND == _DESTINATIONS:
            score *= tl.load(grad_weight_ptr + own_place, mask=known & filled, other=0).to(SUM)
            score += tl.sum(total * own_x, axis=1)
        else:
            score += tl.sum(tl.sum(second, axis=0) * own_x, axis=1)
    whole = known
    if slot_ptr is not None:
        slot = tl.load(slot_ptr + number, mask=number < segments, other=-1)
        whole = known & (slot < 0)
        place = (slot.to(tl.int64) if WIDE else slot) * heads + head
        _store(slots_ptr, slot_scores_ptr, place, slot >= 0, total, score, column, width, KIND)
    _store(out_ptr, out_score_ptr, own_place, whole, total, score, column, width, KIND)


def attend(
    kind: int,
    schedule: RowSchedule,
    csr: Csr,
    scores: tuple[Tensor, Tensor],
    x: Tensor,
    shift: Tensor,
    slope: float,
    *,
    out_score: Tensor,
    out: Tensor | None = None,
    grad_weight: Tensor | None = None,
    own_x: Tensor | None = None,
) -> None:
    """One of the three sums over the block's rows; `scores` are those of its rows [R, h] and columns [C, h].

    x [C, h, d] is what is summed, own_x [R, h, d] what a row's second sum is multiplied with. All contiguous;
    shift and grad_weight are the destinations'. Written: out [R, h, d], out_score [R, h].
    """
    heads, width = x.shape[1:]
    slots = None if out is None else row_sums.waiting_sums(schedule, heads * width, x)
    slot_scores = row_sums.waiting_sums(schedule, heads, x)
    tile = tiles.attention_tile(width, x.dtype, 2 if kind == SOURCES else 1)
    segments = schedule.segments
    tiles.launch(
        _attend_segments,
        (tiles.parts(len(segments), tile.rows), heads),
        *(segments.start, segments.stop, segments.row, segments.slot, len(segments)),
        *(
            csr.indices,
            *scores,
            x,
            shift,
            grad_weight,
            own_x,
            out,
            out_score,
            slots,
            slot_scores,
            heads,
            width,
        ),
        tile=tile,
        SLOPE=slope,
        KIND=kind,
        WIDE=tiles.is_wide(x, out, own_x, slots),
        ROWS=tile.rows,
        ARCS=tile.arcs,
        BLOCK=tile.columns,
    )
    row_sums.add_waiting(schedule, slot_scores, out_score)
    if out is not None:
        row_sums.add_waiting(schedule, slots, out.view(csr.num_rows, heads * width))


@triton.jit(do_not_specialize=["segments"])
def _max_segments(
    start_ptr, stop_ptr, row_ptr, slot_ptr, segments, indices_ptr, x_ptr, out_ptr, slots_ptr, heads,
    WIDE: tl.constexpr, ROWS: tl.constexpr, ARCS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A maximum of the device may lose what is NaN: it is looked for apart."""
    MAX: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    number, start, arcs, row = segments_here(start_ptr, stop_ptr, row_ptr, segments, ROWS)
    head = tl.arange(0, BLOCK)
    largest = tl.full((ARCS, ROWS, BLOCK), float("-inf"), MAX)
    strange = tl.zeros((ARCS, ROWS, BLOCK), tl.int32)
    for first in range(0, tl.max(arcs, axis=0), ARCS):
        nth = first + tl.arange(0, ARCS)
        there, arc = nth[:, None] < arcs[None, :], start[None, :] + nth[:, None]
        place = arc
        if indices_ptr is not None:
            place = tl.load(indices_ptr + arc, mask=there, other=0)
        offset = (place.to(tl.int64) if WIDE else place) * heads
        entries = x_ptr + offset[:, :, None] + head[None, None, :]
        kept = there[:, :, None] & (head < heads)[None, None, :]
        values = tl.load(entries, mask=kept, other=float("-inf")).to(MAX)
        strange = tl.where(values != values, 1, strange)
        largest = tl.where(values > largest, values, largest)
    result = tl.max(largest, axis=0)
    result = tl.where(tl.max(strange, axis=0) > 0, float("nan"), result)
    whole = row >= 0
    if slot_ptr is not None:
        slot = tl.load(slot_ptr + number, mask=number < segments, other=-1)
        whole = whole & (slot < 0)
        waiting = (slot.to(tl.int64) if WIDE else slot) * heads
        entries = slots_ptr + waiting[:, None] + head[None, :]
        tl.store(entries, result, mask=(slot >= 0)[:, None] & (head < heads)[None, :])
    offset = (row.to(tl.int64) if WIDE else row) * heads
    entries = out_ptr + offset[:, None] + head[None, :]
    kept = whole[:, None] & (head < heads)[None, :]
    tl.store(entries, as_kept(result, out_ptr.dtype.element_ty), mask=kept)


def row_max(schedule: RowSchedule, csr: Csr, x: Tensor, out: Tensor) -> None:
    """out [R, h] = the largest x [C, h] of each row's columns, NaN if one is, -inf of an empty row."""
    slots = row_sums.waiting_sums(schedule, x.shape[1], x)
    _max(schedule.segments, csr.indices, x, out, slots)
    if schedule.split is not None and slots is not None:
        _max(schedule.split, None, slots, out, None)


def _max(segments: Segments, indices: Tensor | None, x: Tensor, out: Tensor, slots: Tensor | None) -> None:
    tile = tiles.attention_tile(x.shape[1], x.dtype, 1)
    tiles.launch(
        _max_segments,
        (tiles.parts(len(segments), tile.rows), min(1, x.shape[1])),
        *(segments.start, segments.stop, segments.row, segments.slot, len(segments)),
        *(indices, x, out, slots, x.shape[1]),
        tile=tile,
        WIDE=tiles.is_wide(x, out, slots),
        ROWS=tile.rows,
        ARCS=tile.arcs,
        BLOCK=tile.columns,
    )
