"""Rows by index: gathered for the wire, rounded to it, and added where they belong.

Shapes:
    N rows   S rows listed by an index   F features
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import dataclasses

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bnsgcn.kernels.csr import id_dtype
from bnsgcn.kernels.random_bits import LEVELS
from bnsgcn.kernels.triton import tiles
from bnsgcn.kernels.triton.bits import as_kept, entry_bits, halves, row_state

_LEVELS = tl.constexpr(float(LEVELS))
_WHOLE = tl.constexpr(float(1 << 23))
"""From here on a float32 has no fraction: adding it rounds to the nearest whole number, halves to even."""


@triton.jit(do_not_specialize=["count"])
def _gather(
    x_ptr, x_stride, index_ptr, scale_ptr, out_ptr, out_stride, count, features,
    WIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = (place < count)[:, None] & (column < features)[None, :]
    index = tl.load(index_ptr + place, mask=place < count, other=0)
    offset = (index.to(tl.int64) if WIDE else index) * x_stride
    rows = tl.load(x_ptr + offset[:, None] + column[None, :], mask=kept, other=0)
    if scale_ptr is not None:
        SUM: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
        scale = tl.load(scale_ptr + place, mask=place < count, other=0).to(SUM)
        rows = as_kept(rows.to(SUM) * scale[:, None], x_ptr.dtype.element_ty)
    offset = (place.to(tl.int64) if WIDE else place) * out_stride
    tl.store(out_ptr + offset[:, None] + column[None, :], as_kept(rows, out_ptr.dtype.element_ty), mask=kept)


def gather_rows(x: Tensor, index: Tensor, scale: Tensor | None, out: Tensor) -> None:
    """out[s] = scale[s] * x[index[s]], rounded to the format of x and then to that of out."""
    tile = tiles.row_tile(x.shape[1])
    tiles.launch(
        _gather,
        (tiles.parts(index.numel(), tile.rows), tiles.parts(x.shape[1], tile.columns)),
        *(x, x.stride(0), index, scale, out, out.stride(0), index.numel(), x.shape[1]),
        tile=tile,
        WIDE=tiles.is_wide(x, out),
        ROWS=tile.rows,
        BLOCK=tile.columns,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """The entries of an index sorted by what they name, those that name the same in their order."""

    names: Tensor
    """[S], ascending."""
    places: Tensor
    """[S], where in the index each was."""
    stop: Tensor
    """[S], of the first entry of a name where the name ends, 0 of others."""
    version: int
    """Of the index: another number when it was written to since."""


class Orders:
    """Orders of indices, made once for an index and kept as long as it lives."""

    def __init__(self) -> None:
        self._made = WeakTensorKeyDictionary()

    def of(self, index: Tensor, rows: int) -> Order:
        """The order of an index into `rows` rows."""
        known: Order | None = self._made.get(index)
        if known is None or known.version != index._version:
            known = make_order(index, id_dtype(index.numel(), rows))
            self._made[index] = known
        return known


def make_order(index: Tensor, dtype: torch.dtype) -> Order:
    """Sorted on the index's device, without asking it anything."""
    names, places = torch.sort(index, stable=True)
    first = torch.ones_like(names, dtype=torch.bool)
    torch.ne(names[1:], names[:-1], out=first[1:])
    stop = torch.searchsorted(names, names, right=True).masked_fill(~first, 0)
    return Order(names.to(dtype), places.to(dtype), stop.to(dtype), index._version)


@triton.jit(do_not_specialize=["count"])
def _scatter(
    out_ptr, out_stride, names_ptr, places_ptr, stop_ptr, rows_ptr, rows_stride, scale_ptr, count, features,
    WIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    SUM: tl.constexpr = tl.float64 if out_ptr.dtype.element_ty == tl.float64 else tl.float32
    entry = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < features
    stop = tl.load(stop_ptr + entry, mask=entry < count, other=0)
    first = stop > entry
    name = tl.load(names_ptr + entry, mask=first, other=0)
    offset = (name.to(tl.int64) if WIDE else name) * out_stride
    entries = out_ptr + offset[:, None] + column[None, :]
    total = tl.load(entries, mask=first[:, None] & inside[None, :], other=0).to(SUM)
    for nth in range(0, tl.max(stop - entry, axis=0)):
        there = nth < stop - entry
        place = tl.load(places_ptr + entry + nth, mask=there, other=0)
        offset = (place.to(tl.int64) if WIDE else place) * rows_stride
        kept = there[:, None] & inside[None, :]
        rows = tl.load(rows_ptr + offset[:, None] + column[None, :], mask=kept, other=0).to(SUM)
        if scale_ptr is not None:
            rows *= tl.load(scale_ptr + place, mask=there, other=0).to(SUM)[:, None]
        total = tl.where(there[:, None], total + rows, total)
    tl.store(entries, as_kept(total, out_ptr.dtype.element_ty), mask=first[:, None] & inside[None, :])


def scatter_add_rows(out: Tensor, order: Order, rows: Tensor, scale: Tensor | None) -> None:
    """out[index[s]] += scale[s] * rows[s], one after another in the order of s."""
    tile, count = tiles.row_tile(out.shape[1]), order.names.numel()
    tiles.launch(
        _scatter,
        (tiles.parts(count, tile.rows), tiles.parts(out.shape[1], tile.columns)),
        *(out, out.stride(0), order.names, order.places, order.stop),
        *(rows, rows.stride(0), scale, count, out.shape[1]),
        tile=tile,
        WIDE=tiles.is_wide(out, rows),
        ROWS=tile.rows,
        BLOCK=tile.columns,
    )


@triton.jit
def _rounded(values):
    """Whole numbers next to values below 2^23, halves to even."""
    size = (tl.abs(values) + _WHOLE) - _WHOLE
    return tl.where(values < 0, -size, size)


@triton.jit(do_not_specialize=["low", "high", "count"])
def _pack_int8(
    x_ptr, x_stride, index_ptr, codes_ptr, scale_ptr, low, high, count, features,
    TOP: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = place < count
    index = place
    if index_ptr is not None:
        index = tl.load(index_ptr + place, mask=there, other=0)
    offset = (index.to(tl.int64) if WIDE else index) * x_stride
    largest = tl.zeros((ROWS,), tl.float32)
    strange = tl.zeros((ROWS,), tl.int32)
    for first in range(0, features, BLOCK):
        column = first + tl.arange(0, BLOCK)
        kept = there[:, None] & (column < features)[None, :]
        rows = tl.load(x_ptr + offset[:, None] + column[None, :], mask=kept, other=0).to(tl.float32)
        sizes = tl.abs(rows)
        finite = sizes < float("inf")  # false of what is NaN
        largest = tl.maximum(largest, tl.max(tl.where(finite, sizes, 0.0), axis=1))
        strange = tl.maximum(strange, tl.max(tl.where(finite, 0, 1), axis=1))
    usable = (strange == 0) & (largest > 0)
    top = tl.full((ROWS,), TOP * _LEVELS, tl.float32)
    levels = tl.where(usable, tl.div_rn(top, tl.where(usable, largest, 1.0)), 0.0)
    state_low, state_high = row_state(low, high, place)
    codes_offset = (place.to(tl.int64) if WIDE else place) * features
    for first in range(0, features, BLOCK):
        column = first + tl.arange(0, BLOCK)
        kept = there[:, None] & (column < features)[None, :]
        rows = tl.load(x_ptr + offset[:, None] + column[None, :], mask=kept, other=0).to(tl.float32)
        fine = rows * levels[:, None]
        fine = tl.where(tl.abs(fine) < _WHOLE, fine, 0.0)  # of rows that are not finite, or next to 0
        bits = entry_bits(state_low[:, None], state_high[:, None], column[None, :])
        codes = (_rounded(fine).to(tl.int32) + bits) >> 16
        tl.store(codes_ptr + codes_offset[:, None] + column[None, :], codes.to(tl.int8), mask=kept)
    scale = tl.div_rn(largest, tl.full((ROWS,), TOP, tl.float32))
    tl.store(scale_ptr + place, tl.where(strange > 0, float("nan"), scale), mask=there)


def pack_int8(x: Tensor, index: Tensor | None, key: int, top: int, codes: Tensor, scale: Tensor) -> None:
    """Rows x[index] as `codes` int8 [S, F] up to `top` and `scale` [S]; of random_bits' (key, s, column)."""
    tile, count = tiles.row_tile(x.shape[1]), codes.shape[0]
    tiles.launch(
        _pack_int8,
        (tiles.parts(count, tile.rows),),
        *(x, x.stride(0), index, codes, scale, *halves(key), count, x.shape[1]),
        tile=tile,
        TOP=float(top),
        WIDE=tiles.is_wide(x, codes),
        ROWS=tile.rows,
        BLOCK=tile.columns,
    )
