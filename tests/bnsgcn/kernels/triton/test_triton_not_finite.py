"""NaN stays NaN, by the cases that every backend is held to; see test_not_finite.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bnsgcn.kernels import Kernels
from tests.bnsgcn.kernels.dense_blocks import random_block
from tests.bnsgcn.kernels.test_not_finite import COLS, KERNELS, POISONS, ROWS, Case, Scene, differences


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize(("dtype", "width", "heads"), [(torch.float32, 5, 3), (torch.float64, 33, 1)])
def test_what_is_not_finite_stays_so(
    kernels: Kernels,
    device: torch.device,
    make: Callable[[Scene], Case],
    dtype: torch.dtype,
    width: int,
    heads: int,
) -> None:
    torch.manual_seed(7)
    csr = random_block(ROWS, COLS, 0.4, 7)[0].to(device)
    with device:
        scene = Scene(kernels, dtype, width, heads, csr, (csr.row_ids().long(), csr.indices.long()))
        case = make(scene)
        for name in range(len(case.inputs)):
            poison = POISONS[name % 3]
            assert not differences(case, name, 11 * name + 4, poison), (name, poison)


def test_the_numbers_of_an_empty_row_are_not_looked_at(kernels: Kernels, device: torch.device) -> None:
    """A gradient that is NaN at a row without neighbours reaches no score."""
    csr = random_block(ROWS, COLS, 0.4, 7)[0]
    empty = int((csr.degrees() == 0).nonzero()[0])
    scores = torch.zeros(ROWS, 1), torch.zeros(COLS, 1)
    grad_sum, grad_weight = torch.ones(ROWS, 1, 4), torch.ones(ROWS, 1)
    grad_sum[empty], grad_weight[empty] = torch.nan, torch.nan
    blocks = csr.to(device), csr.transpose().to(device)
    given = [one.to(device) for one in (*scores, torch.ones(COLS, 1, 4), torch.zeros(ROWS, 1))]
    grads = kernels.attention_sum_backward(*blocks, *given, 0.2, grad_sum.to(device), grad_weight.to(device))
    assert all(bool(grad.isfinite().all()) for grad in grads)
