"""Small random blocks and their dense matrices."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import strategies as st
from torch import Tensor

from bnsgcn.kernels import Csr

COLUMN_COUNTS = st.sampled_from(
    [1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 47, 64, 100, 128, 255, 256, 257, 271, 300, 520]
)


def random_block(rows: int, cols: int, density: float, seed: int) -> tuple[Csr, Tensor]:
    """A block with some empty rows and columns, and the same as a float64 matrix."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(rows, cols, generator=generator) < density
    dense[torch.rand(rows, generator=generator) < 0.2] = False
    dense[:, torch.rand(cols, generator=generator) < 0.2] = False
    return block_of(dense), dense.double()


def weighted_block(rows: int, cols: int, density: float, seed: int) -> tuple[Csr, Tensor]:
    """The same, arcs weighing 0 to 2 (some of them 0)."""
    csr, _ = random_block(rows, cols, density, seed)
    weights = 2 * torch.rand(csr.num_arcs, generator=torch.Generator().manual_seed(seed))
    weights[::7] = 0
    csr = dataclasses.replace(csr, weights=weights)
    return csr, dense_of(csr)


def block_of(dense: Tensor) -> Csr:
    indptr = torch.zeros(dense.shape[0] + 1, dtype=torch.int64)
    torch.cumsum(dense.sum(1), 0, out=indptr[1:])
    return Csr.of(indptr, dense.nonzero()[:, 1], dense.shape[1])


def dense_of(csr: Csr) -> Tensor:
    dense = torch.zeros(csr.num_rows, csr.num_cols, dtype=torch.float64)
    rows = csr.row_ids().long()
    values = torch.ones(csr.num_arcs) if csr.weights is None else csr.weights
    dense.index_put_((rows, csr.indices.long()), values.double(), accumulate=True)
    return dense
