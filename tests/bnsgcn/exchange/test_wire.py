"""Rows on the wire: every format comes back as close as it can, for any number of rows and columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnsgcn.exchange.wire import Wire
from bnsgcn.kernels import select

KERNELS = select("auto", torch.device("cpu"), torch.float32)
RELATIVE = {"fp32": 0.0, "bf16": 2**-8, "fp16": 2**-11}


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 7, 32, 33])
@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("computed", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8"])
def test_rows_come_back(dtype: Any, computed: torch.dtype, rows: int, columns: int) -> None:
    wire, generator = Wire(dtype, KERNELS), torch.Generator().manual_seed(rows)
    x = torch.randn(9, columns, generator=generator, dtype=computed)
    index = torch.randint(0, 9, (rows,), generator=generator)
    packed = wire.pack(x, index, 5)
    room = wire.room(rows, columns, x)
    assert (packed.dtype, packed.shape) == (room.dtype, room.shape)
    assert packed.numel() * packed.element_size() == rows * wire.row_bytes(columns, computed)
    back = wire.unpack(packed, computed)
    assert back.dtype == computed
    if dtype == "int8":
        step = x[index].abs().amax(1, keepdim=True) / 127
        assert ((back - x[index]).abs() <= 1.0001 * step).all()
    else:
        assert torch.allclose(back, x[index], rtol=RELATIVE[dtype], atol=0)
    everything = wire.unpack(wire.pack(x, None, 5), computed)
    assert everything.shape == x.shape


def test_fp16_has_a_ceiling_instead_of_infinity() -> None:
    wire = Wire("fp16", KERNELS)
    back = wire.unpack(wire.pack(torch.tensor([[1e9, -1e9, 3.0]]), None, 0), torch.float32)
    assert back.tolist() == [[65504.0, -65504.0, 3.0]]


def test_int8_bytes_depend_on_the_key_and_on_nothing_else() -> None:
    wire, x = Wire("int8", KERNELS), torch.linspace(-1, 1, 300).view(3, 100)
    assert torch.equal(wire.pack(x, None, 1), wire.pack(x, None, 1))
    assert not torch.equal(wire.pack(x, None, 1), wire.pack(x, None, 2))
