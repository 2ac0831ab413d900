"""Counter-based random bits: a pure function of (key, node id, column), the same on every device.

Nothing here has state. The compiled kernels evaluate the same function, so a mask drawn on one worker,
backend or device is bitwise the mask drawn on any other. Sixteen bits an entry: probabilities are multiples
of 2^-16.

The function: SplitMix64's finaliser mixes (key, node id) into a row state of two 32-bit halves (low, high);
word w of the row is `low + (w + 1) * golden` through a two-round multiply-xorshift finaliser with `high`
mixed in between. A word serves two columns, sixteen apart, so that vector code needs no shuffles: of columns
32 b + i, i < 16 has the low half of word 16 b + i, and i >= 16 the high half of word 16 b + i - 16.

Sources: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (64-bit finaliser);
C. Wellons, "Prospecting for hash functions", 2018 (32-bit multipliers).

Shapes:
    N rows   F columns   W words of a row
"""

from __future__ import annotations

import dataclasses
import enum

import torch
from torch import Tensor

LEVELS = 1 << 16
"""Number of values of one entry's bits."""
_ROWS_AT_ONCE = 4096
_ENTRIES_AT_ONCE = 1 << 16
_MASK64 = (1 << 64) - 1
GOLDEN64 = 0x9E3779B97F4A7C15
GOLDEN32 = 0x9E3779B9
MIX64 = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
MIX32 = (0x7FEB352D, 0x846CA68B)
"""With these the function is written down in other languages too."""


class Stream(enum.IntEnum):
    """What a key is for: two uses of the same (seed, epoch, layer) never share bits."""

    DROPOUT = 0
    FEATURE_ROUNDING = 1
    GRADIENT_ROUNDING = 2
    VALIDATION = 3


def signed(value: int, bits: int) -> int:
    """The two's complement reading of the low `bits` bits of `value`."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _mix64(z: int) -> int:
    z = ((z ^ (z >> 30)) * MIX64[0]) & _MASK64
    z = ((z ^ (z >> 27)) * MIX64[1]) & _MASK64
    return z ^ (z >> 31)


def key(seed: int, epoch: int, layer: int, stream: int) -> int:
    """A 64-bit key (as a signed integer, ready for an int64 tensor); every argument is mixed in turn."""
    z = 0
    for word in (seed, epoch, layer, stream):
        z = _mix64((z + GOLDEN64 + (word & _MASK64)) & _MASK64)
    return signed(z, 64)


def keep_levels(p: float) -> int:
    """How many of the 2^16 values of an entry's bits keep it, for dropout with probability `p` in [0, 1).

    Raises:
        ValueError: `p` is outside [0, 1).
    """
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout probability is {p}, must be in [0, 1); use 0 to keep everything")
    return max(1, round((1.0 - p) * LEVELS))


def keep_scale(p: float) -> float:
    """What an entry that is kept is multiplied by: unbiased although `keep_levels` rounds."""
    return LEVELS / keep_levels(p)


def row_state(key: int, node_ids: Tensor) -> Tensor:
    """Mixed (key, node id): int32 [N, 2], low half first."""
    z = node_ids.to(torch.int64) * signed(GOLDEN64, 64) + signed(key, 64)
    for shift, factor in ((30, MIX64[0]), (27, MIX64[1])):
        z = (z ^ _shift_right(z, shift, 64)) * signed(factor, 64)
    z = z ^ _shift_right(z, 31, 64)
    return z.view(-1, 1).view(torch.int32)


def _shift_right(z: Tensor, shift: int, bits: int) -> Tensor:
    """Logical shift; torch's is arithmetic."""
    return (z >> shift) & ((1 << (bits - shift)) - 1)


def bits(key: int, node_ids: Tensor, num_columns: int) -> Tensor:
    """Uniform bits of every (row, column): int32 [N, F] with values in [0, 65536)."""
    blocks = -(-num_columns // 32)
    state = row_state(key, node_ids)
    low, high = state[:, :1], state[:, 1:]
    word = torch.arange(1, 16 * blocks + 1, dtype=torch.int64, device=node_ids.device) * GOLDEN32
    z = _mix_words(low + word.view(-1, 1).view(torch.int32)[:, 0], high)
    z = z.view(-1, blocks, 1, 16)
    both = torch.cat([z & (LEVELS - 1), _shift_right(z, 16, 32)], dim=2)
    return both.view(-1, 32 * blocks)[:, :num_columns]


def _entry_bits(state: Tensor, columns: Tensor) -> Tensor:
    """`bits` of single entries: row states int32 [E, 2] and columns [E] -> [E]."""
    columns = columns.to(torch.int32)
    word = ((columns >> 5) << 4) + (columns & 15) + 1
    z = _mix_words(state[:, 0] + word * signed(GOLDEN32, 32), state[:, 1])
    return torch.where((columns & 16) == 0, z & (LEVELS - 1), _shift_right(z, 16, 32))


def _mix_words(z: Tensor, high: Tensor) -> Tensor:
    """The finaliser of words int32, in place."""
    z ^= _shift_right(z, 16, 32)
    z *= signed(MIX32[0], 32)
    z ^= high
    z ^= _shift_right(z, 15, 32)
    z *= signed(MIX32[1], 32)
    z ^= _shift_right(z, 16, 32)
    return z


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """What a dropout keeps of some rows: the entries whose bits of (key, node id, column) say so."""

    node_ids: Tensor
    """int64 [N]."""
    key: int
    p: float
    """Probability of being dropped, in [0, 1)."""

    @property
    def levels(self) -> int:
        """See keep_levels."""
        return keep_levels(self.p)

    @property
    def scale(self) -> float:
        """See keep_scale."""
        return keep_scale(self.p)

    def rows(self, rows: slice) -> Mask:
        """The mask of some of the rows."""
        return dataclasses.replace(self, node_ids=self.node_ids[rows])

    def kept_entries(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Bool [E] of single entries, given by the places of their rows and their columns."""
        state, kept = row_state(self.key, self.node_ids), torch.empty_like(rows, dtype=torch.bool)
        for first in range(0, rows.numel(), _ENTRIES_AT_ONCE):
            some = slice(first, first + _ENTRIES_AT_ONCE)
            bits_of = _entry_bits(state.index_select(0, rows[some]), columns[some])
            torch.lt(bits_of, self.levels, out=kept[some])
        return kept

    def kept(self, num_columns: int) -> Tensor:
        """Bool [N, F]."""
        return keep_mask(self.key, self.node_ids, num_columns, self.p)


def keep_mask(key: int, node_ids: Tensor, num_columns: int, p: float) -> Tensor:
    """Dropout's mask: bool [N, F], True with probability keep_levels(p) / 65536.

    On CPU in pieces of a few thousand rows, so that the integers stay in cache.
    """
    levels = keep_levels(p)
    if node_ids.device.type != "cpu" or node_ids.numel() <= _ROWS_AT_ONCE:
        return bits(key, node_ids, num_columns) < levels
    mask = torch.empty(node_ids.numel(), num_columns, dtype=torch.bool)
    for first in range(0, node_ids.numel(), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        torch.lt(bits(key, node_ids[rows], num_columns), levels, out=mask[rows])
    return mask
