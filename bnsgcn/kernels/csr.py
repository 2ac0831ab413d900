"""Sparse blocks in CSR form.

Row r lists the columns it sums over; an arc counts once, or as its weight says. Ids are int32 where both the
arcs and the columns fit, which halves the memory traffic of the ids; int64 otherwise.

Shapes:
    R rows   C columns   E arcs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_INT32_MAX = torch.iinfo(torch.int32).max


@dataclasses.dataclass(frozen=True, eq=False)
class Csr:
    """One block. Equality is identity, so that a backend can key what it derives on the block."""

    indptr: Tensor
    """[R + 1], the same dtype as `indices`."""
    indices: Tensor
    """[E], columns of row r at indptr[r] : indptr[r + 1]."""
    num_rows: int
    num_cols: int
    weights: Tensor | None = None
    """[E], float32 of a graph; None: every arc weighs 1."""

    def __post_init__(self) -> None:
        assert self.indptr.dtype == self.indices.dtype
        assert self.indptr.device == self.indices.device
        assert self.indptr.numel() == self.num_rows + 1
        assert self.weights is None or self.weights.shape == self.indices.shape

    @property
    def num_arcs(self) -> int:
        """E."""
        return self.indices.numel()

    @property
    def has_plain_weights(self) -> bool:
        """Whether weights, where there are any, are float32, as compiled kernels take them."""
        return self.weights is None or self.weights.dtype == torch.float32

    @property
    def device(self) -> torch.device:
        """Where both arrays are."""
        return self.indices.device

    @classmethod
    def from_numpy(
        cls,
        indptr: NDArray[np.integer],
        indices: NDArray[np.integer],
        num_cols: int,
        weights: NDArray[np.float32] | None = None,
    ) -> Csr:
        """A block of NumPy arrays; memory is shared where the dtype is right already."""
        per_arc = None if weights is None else torch.from_numpy(weights)
        return cls.of(torch.from_numpy(indptr), torch.from_numpy(indices), num_cols, per_arc)

    @classmethod
    def of(cls, indptr: Tensor, indices: Tensor, num_cols: int, weights: Tensor | None = None) -> Csr:
        """A block of tensors of any integer dtype; checks that the arrays agree with each other.

        Raises:
            ValueError: `indptr` descends or does not run from 0 to the number of arcs, or a column is outside
                [0, num_cols).
        """
        ends = (int(indptr[0]), int(indptr[-1]))
        if ends != (0, indices.numel()):
            raise ValueError(
                f"indptr runs from {ends[0]} to {ends[1]}, but there are {indices.numel()} column ids"
            )
        if bool((indptr[1:] < indptr[:-1]).any()):
            row = int((indptr[1:] < indptr[:-1]).nonzero()[0])
            raise ValueError(
                f"indptr descends from {int(indptr[row])} to {int(indptr[row + 1])} at row {row}"
            )
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < num_cols:
            low, high = int(indices.min()), int(indices.max())
            raise ValueError(f"column ids run from {low} to {high}, the block has {num_cols} columns")
        dtype = id_dtype(indices.numel(), num_cols)
        pieces = indptr.to(dtype).contiguous(), indices.to(dtype).contiguous()
        return cls(*pieces, indptr.numel() - 1, num_cols, weights)

    def to(self, device: torch.device | str) -> Csr:
        """The block on `device`; itself when it is there already."""
        if self.device == torch.device(device):
            return self
        return self.moved(lambda piece: piece.to(device))

    def moved(self, move: Callable[[Tensor], Tensor]) -> Csr:
        """The block with its arrays moved one by one."""
        weights = None if self.weights is None else move(self.weights)
        return Csr(move(self.indptr), move(self.indices), self.num_rows, self.num_cols, weights)

    def degrees(self) -> Tensor:
        """Arcs of each row: [R]."""
        return self.indptr.diff()

    def arc_weights(self, arcs: Tensor) -> Tensor | None:
        """Weights of the given arcs, ids or a bool mask [E]; None in an unweighted block."""
        return None if self.weights is None else self.weights[arcs]

    def weight_room(self, arcs: int) -> Tensor | None:
        """Room for the weights of so many arcs; None in an unweighted block."""
        assert self.has_plain_weights
        return None if self.weights is None else self.weights.new_empty(arcs)

    def row_ids(self) -> Tensor:
        """The row of each arc: [E]."""
        rows = torch.arange(self.num_rows, dtype=self.indices.dtype, device=self.device)
        return torch.repeat_interleave(rows, self.degrees(), output_size=self.num_arcs)

    def transpose(self) -> Csr:
        """Rows and columns swapped; columns ascend inside a row when the rows were in order, as ours are."""
        order = torch.sort(self.indices, stable=True).indices
        counts = torch.bincount(self.indices, minlength=self.num_cols)
        dtype = id_dtype(self.num_arcs, self.num_rows)
        offsets, columns = _offsets(counts, dtype), self.row_ids()[order].to(dtype)
        return Csr(offsets, columns, self.num_cols, self.num_rows, self.arc_weights(order))

    def select_rows(self, rows: Tensor) -> Csr:
        """The given rows, in the given order; a bool mask [R] or ids [K], which may repeat."""
        if rows.dtype == torch.bool:
            rows = rows.nonzero().view(-1)
        indptr = self.indptr.to(torch.int64)
        counts = indptr.diff()[rows]
        offsets = _offsets(counts, torch.int64)
        total = int(offsets[-1])
        shift = torch.repeat_interleave(indptr[rows] - offsets[:-1], counts, output_size=total)
        arcs = shift + torch.arange(total, device=self.device)
        dtype = id_dtype(total, self.num_cols)
        columns, weights = self.indices[arcs].to(dtype), self.arc_weights(arcs)
        return Csr(offsets.to(dtype), columns, rows.numel(), self.num_cols, weights)

    def compact(self, column_map: Tensor, num_cols: int) -> Csr:
        """Columns renamed by `column_map` int32 [C] (new column, or -1 to drop the arc); rows stay."""
        renamed = column_map[self.indices]
        kept = renamed >= 0
        before = torch.zeros(self.num_arcs + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(kept, 0, out=before[1:])
        dtype = id_dtype(self.num_arcs, num_cols)
        columns, weights = renamed[kept].to(dtype), self.arc_weights(kept)
        return Csr(before[self.indptr].to(dtype), columns, self.num_rows, num_cols, weights)


def id_dtype(num_arcs: int, num_cols: int) -> torch.dtype:
    """int32 where both numbers fit."""
    return torch.int32 if max(num_arcs, num_cols) <= _INT32_MAX else torch.int64


def shortened(piece: Tensor, kept: int) -> Tensor:
    """The first `kept` entries; where they are few, without the room of the others."""
    return piece[:kept].clone() if 2 * kept < piece.numel() else piece[:kept]


def _offsets(counts: Tensor, dtype: torch.dtype) -> Tensor:
    """Exclusive prefix sums with the total at the end: [K] -> [K + 1]."""
    ends = torch.zeros(counts.numel() + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=ends[1:])
    return ends.to(dtype)
