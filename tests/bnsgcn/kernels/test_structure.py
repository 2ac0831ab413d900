"""Blocks made from blocks, against dense matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnsgcn.kernels import Csr, Kernels
from tests.bnsgcn.kernels.dense_blocks import dense_of, random_block, weighted_block

per_backend = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
sizes = {
    "rows": st.integers(0, 25),
    "cols": st.integers(0, 25),
    "seed": st.integers(0, 1000),
    "make": st.sampled_from([random_block, weighted_block]),
}
Make = Callable[[int, int, float, int], tuple[Csr, Tensor]]


@per_backend
@given(**sizes)
def test_transpose(kernels: Kernels, rows: int, cols: int, seed: int, make: Make) -> None:
    csr, dense = make(rows, cols, 0.4, seed)
    turned = kernels.transpose(csr)
    assert (turned.num_rows, turned.num_cols) == (cols, rows)
    assert torch.equal(dense_of(turned), dense.t())
    assert_same(kernels.transpose(turned), csr)


@per_backend
@given(**sizes, choice=st.lists(st.integers(0, 24), max_size=30))
def test_select_rows(
    kernels: Kernels, rows: int, cols: int, seed: int, make: Make, choice: list[int]
) -> None:
    csr, dense = make(rows, cols, 0.4, seed)
    chosen = torch.tensor([row for row in choice if row < rows], dtype=torch.int64)
    assert torch.equal(dense_of(kernels.select_rows(csr, chosen)), dense[chosen])
    mask = torch.arange(rows) % 2 == 0
    assert torch.equal(dense_of(kernels.select_rows(csr, mask)), dense[mask])


@per_backend
@given(**sizes)
def test_compact_drops_and_renames_columns(
    kernels: Kernels, rows: int, cols: int, seed: int, make: Make
) -> None:
    csr, dense = make(rows, cols, 0.4, seed)
    drawn = torch.arange(cols) % 3 == 1
    column_map = torch.where(drawn, torch.cumsum(drawn, 0) - 1, -1).int()
    small = kernels.compact(csr, column_map, int(drawn.sum()))
    assert torch.equal(dense_of(small), dense[:, drawn])
    # what a draw needs for its backward: rows of the transpose, no sorting
    ids = drawn.nonzero()[:, 0]
    assert_same(kernels.select_rows(kernels.transpose(csr), ids), kernels.transpose(small))


def test_ids_stay_within_int32_where_they_fit(kernels: Kernels) -> None:
    csr, _ = random_block(9, 9, 0.5, seed=0)
    made = kernels.transpose(csr), kernels.select_rows(csr, torch.tensor([1, 1]))
    assert all(block.indices.dtype == block.indptr.dtype == torch.int32 for block in made)


def test_select_rows_beyond_the_block(kernels: Kernels) -> None:
    csr, _ = random_block(9, 9, 0.5, seed=0)
    with pytest.raises(IndexError):
        kernels.select_rows(csr, torch.tensor([9]))


def assert_same(one: Csr, other: Csr) -> None:
    assert torch.equal(one.indptr, other.indptr)
    assert torch.equal(one.indices, other.indices)
    assert (one.num_rows, one.num_cols) == (other.num_rows, other.num_cols)
    assert (one.weights is None) == (other.weights is None)
    assert one.weights is None or torch.equal(one.weights, other.weights)
