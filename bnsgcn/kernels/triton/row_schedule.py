"""Which program sums which arcs: long rows are split, rows of one length are neighbours.

A row of a power-law graph may have as many arcs as a million others together. Rows are cut into segments of
at most so many arcs; segments are grouped by length (up to a factor of two), the longest first, and keep
their order inside a group, so that rows that share neighbours are still summed at about the same time. The
sums of a split row's segments wait in slots and are added in their order: nothing depends on which program
ends first.

Made on the block's device without asking it anything, so lengths are bounds: what is too much is empty.

Shapes:
    R rows   E arcs   T segments   K rows that may be split   S slots
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bnsgcn.kernels.csr import Csr, id_dtype
from bnsgcn.kernels.triton.tiles import power_of_two

SHORTEST_SPLIT = 256
"""Rows of at most so many arcs are never split."""
LONGER_THAN_MEAN = 16
"""Nor are rows of at most so many times the mean: slots are at most an eighth as many as rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """Arcs first, ..., stop - 1 of a row each, longest first."""

    start: Tensor
    """[T]"""
    stop: Tensor
    """[T]"""
    row: Tensor
    """[T], -1 of what is empty because the length is a bound."""
    slot: Tensor | None
    """[T], where the sum of a split row's segment waits, -1 of a whole row; None: no row is split."""

    def __len__(self) -> int:
        return self.row.numel()


@dataclasses.dataclass(frozen=True, eq=False)
class RowSchedule:
    """What is summed first, and what the waiting sums are added up to."""

    segments: Segments
    split: Segments | None
    """Rows that are split, their slots in place of arcs: [K]."""
    slots: int
    """S."""


class Schedules:
    """The schedules of blocks, made once and kept as long as the blocks' offsets live."""

    def __init__(self) -> None:
        self._made = WeakTensorKeyDictionary()

    def of(self, csr: Csr) -> RowSchedule:
        """The block's schedule."""
        known: RowSchedule | None = self._made.get(csr.indptr)
        if known is None:
            known = make_schedule(csr, longest_segment(csr.num_rows, csr.num_arcs))
            self._made[csr.indptr] = known
        return known


def longest_segment(rows: int, arcs: int) -> int:
    """Arcs that are never split, for a block of this size."""
    return max(SHORTEST_SPLIT, power_of_two(LONGER_THAN_MEAN * arcs // max(1, rows)))


def make_schedule(csr: Csr, longest: int) -> RowSchedule:
    """The schedule of a block whose rows are split into segments of `longest` arcs."""
    rows, more = csr.num_rows, csr.num_arcs // longest
    slots = 2 * more if csr.num_arcs > longest else 0
    pieces = ((csr.degrees().to(torch.int64) + (longest - 1)) // longest).clamp_(min=1)
    waiting = torch.where(pieces > 1, pieces, 0)
    first_slot = waiting.cumsum(0) - waiting
    row, nth = _pieces_in_order(pieces, rows + more)
    start, stop, slot = row.new_zeros(0), row.new_zeros(0), row.new_zeros(0)
    if rows:
        known = row.clamp(max=rows - 1)
        ends = csr.indptr.to(torch.int64)
        start = ends[known] + nth * longest
        stop = torch.minimum(start + longest, ends[known + 1])
        slot = torch.where(waiting[known] > 0, first_slot[known] + nth, -1)
    surplus = row >= rows
    length = torch.where(surplus, -1, stop - start)
    order = _longest_first(length)
    pick = _Picked(order, csr.indptr.dtype, id_dtype(slots, rows))
    segments = Segments(
        start=pick.arcs(start.masked_fill(surplus, 0)),
        stop=pick.arcs(stop.masked_fill(surplus, 0)),
        row=pick.rows(row.masked_fill(surplus, -1)),
        slot=pick.rows(slot.masked_fill(surplus, -1)) if slots else None,
    )
    return RowSchedule(segments, _split_rows(waiting, first_slot, min(rows, more), slots), slots)


@dataclasses.dataclass(frozen=True)
class _Picked:
    """Entries in a new order, as small as they may be."""

    order: Tensor
    arc_dtype: torch.dtype
    row_dtype: torch.dtype

    def arcs(self, values: Tensor) -> Tensor:
        return values[self.order].to(self.arc_dtype)

    def rows(self, values: Tensor) -> Tensor:
        return values[self.order].to(self.row_dtype)


def _pieces_in_order(pieces: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """The row of every segment, R where there are no more, and which of the row's segments it is: [bound]."""
    ends = pieces.cumsum(0)
    number = torch.arange(bound, device=pieces.device)
    row = torch.searchsorted(ends, number, right=True)
    before = torch.cat([ends - pieces, ends.new_zeros(1)])
    return row, number - before[row]


def _longest_first(length: Tensor) -> Tensor:
    """The order of segments by the number of bits of their length, stable."""
    bits = torch.frexp(length.to(torch.float64))[1]
    return torch.sort(torch.where(length < 0, -1, bits), descending=True, stable=True).indices


def _split_rows(waiting: Tensor, first_slot: Tensor, bound: int, slots: int) -> Segments | None:
    """Rows whose sums wait in slots, at most `bound`; those with most slots first."""
    if not slots:
        return None
    order = torch.sort(waiting, descending=True, stable=True).indices[:bound]
    pick = _Picked(order, id_dtype(slots, 0), id_dtype(waiting.numel(), 0))
    row = torch.arange(waiting.numel(), device=waiting.device).masked_fill(waiting == 0, -1)
    return Segments(pick.arcs(first_slot), pick.arcs(first_slot + waiting), pick.rows(row), slot=None)
