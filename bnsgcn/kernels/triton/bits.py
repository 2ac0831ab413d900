"""What kernels call: random_bits.py on the device, and numbers rounded to the format they are kept in."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from bnsgcn.kernels import random_bits

_GOLDEN64 = tl.constexpr(random_bits.GOLDEN64)
_MIX64_FIRST, _MIX64_SECOND = (tl.constexpr(factor) for factor in random_bits.MIX64)
_GOLDEN32 = tl.constexpr(random_bits.GOLDEN32)
_MIX32_FIRST, _MIX32_SECOND = (tl.constexpr(factor) for factor in random_bits.MIX32)


_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


def halves(key: int) -> tuple[int, int]:
    """A key as two 32-bit numbers: a kernel's whole number is as wide as its value happens to need."""
    return random_bits.signed(key, 32), random_bits.signed(key >> 32, 32)


@triton.jit
def row_state(low, high, node_ids):
    """Mixed (key, node id): the low and the high half, uint32 and of the node ids' shape."""
    key = (high.to(tl.uint32).to(tl.uint64) << 32) | low.to(tl.uint32).to(tl.uint64)
    z = node_ids.to(tl.uint64) * _GOLDEN64 + key
    z = (z ^ (z >> 30)) * _MIX64_FIRST
    z = (z ^ (z >> 27)) * _MIX64_SECOND
    z = z ^ (z >> 31)
    return (z & 0xFFFFFFFF).to(tl.uint32), (z >> 32).to(tl.uint32)


@triton.jit
def entry_bits(low, high, columns):
    """Bits int32 [N, F] in [0, 65536), from the state [N, 1] of rows and columns [1, F]."""
    word = (((columns >> 5) << 4) + (columns & 15) + 1).to(tl.uint32)
    z = low + word * _GOLDEN32
    z = (z ^ (z >> 16)) * _MIX32_FIRST
    z = z ^ high
    z = (z ^ (z >> 15)) * _MIX32_SECOND
    z = z ^ (z >> 16)
    half = tl.where((columns & 16) == 0, z & 0xFFFF, z >> 16)
    return half.to(tl.int32)


@triton.jit
def as_kept(values, DTYPE: tl.constexpr):
    """Values as DTYPE, to the nearest, halves to even."""
    if tl.bfloat16 == DTYPE:
        values = values.to(tl.float32)
        if _INTERPRETED:  # it cuts off
            z = values.to(tl.uint32, bitcast=True)
            z = tl.where(values == values, z + 0x7FFF + ((z >> 16) & 1), 0x7FC00000)
            return (z >> 16).to(tl.uint16).to(DTYPE, bitcast=True)
    return values.to(DTYPE)
