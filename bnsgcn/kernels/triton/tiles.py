"""How kernels are launched: what one program works on, by the width of its rows.

A tile is recorded for every width and number format and never searched for while a worker runs. The figures
follow from the device's shape and are held against others by benchmarks/gpu_kernels.py: a lane loads 16 bytes
at once, a warp one row of 512 bytes or several shorter ones, and every lane has four loads on their
way, which covers the latency of memory with half of a multiprocessor's warps.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

INT32_MAX = torch.iinfo(torch.int32).max
WIDEST = 4096
"""Columns of a row that one program holds as a whole."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """What one program works on at once; all powers of two."""

    rows: int
    arcs: int
    """Arcs of each of the rows; 1 where a kernel has none."""
    columns: int
    warps: int = 4


SUMS = {
    # bytes of a number: (columns: rows, arcs)
    2: {16: (64, 4), 32: (32, 4), 64: (16, 4), 128: (8, 4), 256: (4, 4)},
    4: {16: (32, 4), 32: (16, 4), 64: (8, 4), 128: (4, 4), 256: (2, 4)},
    8: {16: (16, 4), 32: (8, 4), 64: (4, 4), 128: (2, 4), 256: (1, 4)},
}
"""Tiles of row sums."""
_HELD = 2048
"""Numbers of an attention tile: a head's columns times arcs times rows."""
_ATTENTION_ARCS = 4


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def sum_tile(columns: int, dtype: torch.dtype) -> Tile:
    """The tile of a row sum; wide rows are worked on a block of columns at a time."""
    table = SUMS[dtype.itemsize]
    block = min(max(power_of_two(columns), min(table)), max(table))
    if columns > block and 2 * (columns % block) in range(1, block + 1):
        block //= 2  # the last block would be half empty or more
    return Tile(*table[block], block)


def attention_tile(width: int, dtype: torch.dtype, sums: int) -> Tile:
    """The tile of one head that adds up `sums` rows of the head's width."""
    block = power_of_two(width)
    arcs = max(1, min(_ATTENTION_ARCS, 2 * _HELD // block))
    rows = _HELD * 4 // (arcs * block * sums * max(4, dtype.itemsize))
    return Tile(max(1, rows), arcs, block)


def row_tile(columns: int) -> Tile:
    """The tile of a pass over rows, a block of columns at a time."""
    block = min(power_of_two(columns), 512)
    return Tile(max(1, 1024 // block), 1, block)


def whole_row_tile(columns: int) -> Tile:
    """The tile of a pass over rows of at most WIDEST columns that are held as a whole."""
    block = power_of_two(columns)
    return Tile(max(1, 1024 // block), 1, block, warps=4 if block <= 1024 else 8)


def parts(whole: int, piece: int) -> int:
    """How many pieces cover the whole."""
    return -(-whole // piece)


def is_wide(*matrices: Tensor | None) -> bool:
    """Whether places of entries in one of the matrices need int64."""
    return any(m is not None and m.shape[0] * max(1, m.stride(0)) > INT32_MAX for m in matrices)


def launch(kernel: Any, programs: tuple[int, ...], *given: Any, tile: Tile, **constants: Any) -> None:
    """Run a kernel on a grid of programs; nothing where there are none.

    Products and sums are never fused: what is rounded on CPU is rounded here.
    """
    if 0 not in programs:
        kernel[programs](*given, num_warps=tile.warps, enable_fp_fusion=False, **constants)
