"""Rows of features most of which are 0: what is set, and its products with weights.

A product goes over the entries that are set, and so does the gradient of the weight; there is no gradient of
the rows, which are input. Dropout looks at the same bits of (key, node id, column) as that of dense rows.

Shapes:
    N rows   F columns   E entries that are set   O outputs
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.protocol import Kernels
from bnsgcn.kernels.random_bits import Mask


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Where entries are set; shared by rows that differ in their values."""

    csr: Csr
    """[N x F], columns ascending within a row."""

    @functools.cached_property
    def transposed(self) -> tuple[Csr, Tensor]:
        """[F x N], and for each of its entries the number that it has in `csr`: [E]."""
        order = torch.sort(self.csr.indices, stable=True).indices.to(self.csr.indices.dtype)
        return self.csr.transpose(), order


@dataclasses.dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows [N, F]."""

    places: Places
    values: Tensor
    """[E], of the number format that is computed in."""
    kernels: Kernels

    @classmethod
    def of(
        cls, splits: Tensor, columns: Tensor, values: Tensor, num_columns: int, kernels: Kernels
    ) -> SparseRows:
        """Rows from CSR arrays; `splits` [N+1], columns [E] ascending within a row."""
        return cls(Places(Csr.of(splits, columns, num_columns)), values, kernels)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return self.places.csr.num_rows, self.places.csr.num_cols

    @property
    def num_set(self) -> int:
        """E."""
        return self.values.numel()

    def dropped(self, mask: Mask) -> SparseRows:
        """Dropout: what `Kernels.dropout` makes of the same rows, entry by entry."""
        csr = self.places.csr
        kept = mask.kept_entries(csr.row_ids(), csr.indices)
        return dataclasses.replace(self, values=torch.where(kept, self.values * mask.scale, 0.0))

    def times(self, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """x W^T for W [O, F]: [N, O]; added to `into` where it is given."""
        weighted = dataclasses.replace(self.places.csr, weights=self.values)
        return self.kernels.sum_rows(weighted, weight.t().contiguous(), out=into)

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """g^T x for g [N, O]: [O, F]."""
        csr, order = self.places.transposed
        weighted = dataclasses.replace(csr, weights=self.values.index_select(0, order))
        return self.kernels.sum_rows(weighted, gradient).t().contiguous()

    def dense_columns(self, first: int, last: int) -> Tensor:
        """Columns first, ..., last - 1 of all rows: [N, last - first]."""
        csr, order = self.places.transposed
        entries = slice(int(csr.indptr[first]), int(csr.indptr[last]))
        dense = self.values.new_zeros(self.shape[0], last - first)
        columns = torch.repeat_interleave(csr.indptr[first : last + 1].diff())
        dense[csr.indices[entries].long(), columns.long()] = self.values[order[entries].long()]
        return dense

    def dense(self) -> Tensor:
        """All of it, [N, F]."""
        return self.dense_columns(0, self.shape[1])


def joined_columns(blocks: list[SparseRows]) -> SparseRows:
    """Blocks of columns of the same rows, side by side."""
    starts = [0]
    for block in blocks:
        starts.append(starts[-1] + block.shape[1])
    rows = torch.cat([block.places.csr.row_ids() for block in blocks])
    columns = torch.cat(
        [block.places.csr.indices + start for block, start in zip(blocks, starts, strict=False)]
    )
    order = torch.sort(rows, stable=True).indices
    splits = torch.zeros(blocks[0].shape[0] + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=blocks[0].shape[0]), 0, out=splits[1:])
    values = torch.cat([block.values for block in blocks])
    return SparseRows.of(splits, columns[order], values[order], starts[-1], blocks[0].kernels)


def sparse_rows(dense: Tensor, kernels: Kernels) -> SparseRows:
    """What is set of dense rows [N, F]."""
    rows, columns = dense.nonzero(as_tuple=True)
    splits = torch.zeros(dense.shape[0] + 1, dtype=torch.int64, device=dense.device)
    torch.cumsum(torch.bincount(rows, minlength=dense.shape[0]), 0, out=splits[1:])
    return SparseRows.of(splits, columns, dense[rows, columns], dense.shape[1], kernels)
