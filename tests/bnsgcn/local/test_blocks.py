"""What a layer is built from: the rows that are wanted, and degrees of one number format on all ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bnsgcn.kernels import Csr, select
from bnsgcn.local.blocks import _sums, whole_view
from partition.store import open_part
from tests.bnsgcn.small_graphs import NODES, PartsFolder


@pytest.mark.parametrize("kind", ["single", "oneway"])
@pytest.mark.parametrize("loops", [True, False])
def test_some_rows_are_those_of_the_whole(kind: str, loops: bool, parts_folder: PartsFolder) -> None:
    view = whole_view(open_part(parts_folder(kind, 1), 0), self_loops=loops)
    rows = np.array([0, 7, 8, NODES - 1])
    some, expected = view.inner.of_rows(rows, select()), view.inner.whole.select_rows(torch.from_numpy(rows))
    assert torch.equal(some.indptr, expected.indptr)
    assert torch.equal(some.indices, expected.indices)
    assert (some.weights is None) == (expected.weights is None) == (kind == "single")
    assert some.weights is None or torch.equal(some.weights, expected.weights)  # type: ignore[arg-type]
    assert view.inner.whole.num_arcs == view.inner.stored.num_arcs + loops * NODES


def test_sums_of_no_weights_at_all_are_sums_of_weights() -> None:
    """NumPy counts none of them in integers, and others would read them in another format."""
    none = np.zeros(0, np.int32)
    empty = Csr.from_numpy(np.zeros(4, np.int64), none, 2, none.astype(np.float32))
    assert [found.dtype for found in _sums(empty, np.ones(3, bool), np.ones(2, bool))] == [np.float64] * 2
    counts = _sums(Csr.from_numpy(np.zeros(4, np.int64), none, 2), np.ones(3, bool), np.ones(2, bool))
    assert [found.dtype for found in counts] == [np.int64] * 2
