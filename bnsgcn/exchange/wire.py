"""How rows look while they travel.

    | format | a row of F numbers                                         | bytes      | largest error       |
    |--------|------------------------------------------------------------|------------|---------------------|
    | fp32   | as computed and kept: float64, or bf16 with that storage   | 2, 4, 8 F  | none                |
    | bf16   | bfloat16, to the nearest                                   | 2 F        | 2^-8 of the number  |
    | fp16   | float16, to the nearest, of the row times the power of two | 2 F + 2    | 2^-11 of the number |
    |        | that brings its largest number into [2^14, 2^15)           |            | or 2^-39 of largest |
    | int8   | codes from -127 to 127, rounded up or down; a float32 step | F + 4      | 1 / 127 of largest  |
    | int4   | codes from -7 to 7, two a byte, likewise                   | F / 2 + 4  | 1 / 7 of largest    |

Gradients are small: the loss is divided by all training nodes, a million or more, and float16 ends at 6e-8.
Hence its power of two, by which both ends multiply exactly. bfloat16 reaches as far down as float32: 1e-38.

int8 and int4 round stochastically with the counter-based generator, so the mean over the generator's keys is
the row itself (unbiased), and the same key gives the same bytes. What is not finite arrives as not finite.

    N rows at the sender   S rows sent   F features
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.config import WireDtype
from bnsgcn.kernels import Kernels, pool
from bnsgcn.kernels.half_rows import wide

_FP16_TOP = 15
"""A row's largest number is brought below 2^15: float16 ends at 65504, and nothing may round to more."""
_TOPS: dict[WireDtype, int] = {"int8": 127, "int4": 7}
"""The largest code of the formats of whole numbers."""
_STEP_BYTES = 4
_REACH = {torch.float32: 126, torch.float64: 1022}
"""2^e and 2^-e are ordinary numbers up to this e."""


class Wire:
    """Packs rows for the wire and unpacks them again."""

    def __init__(self, dtype: WireDtype, kernels: Kernels) -> None:
        self.dtype = dtype
        self._kernels = kernels

    def pack(self, x: Tensor, index: Tensor | None, key: int) -> Tensor:
        """Rows `index` int64 [S] of x [N, F] (None = all) as they travel: [S, F].

        int8: uint8 [S, F + 4], the step's bytes last; int4: [S, F / 2 + 4].   fp16: [S, F + 1], the exponent
        last.
        """
        if self.dtype in _TOPS:
            codes, scale = self._kernels.pack_int8(x, index, key, _TOPS[self.dtype])
            written = _paired(codes) if self.dtype == "int4" else codes.view(torch.uint8)
            return torch.cat([written, scale.view(-1, 1).view(torch.uint8)], dim=1)
        if self.dtype == "bf16":
            if index is None:
                return x.to(torch.bfloat16)
            return self._kernels.gather_rows(x, index, out=self.room(index.numel(), x.shape[1], x))
        rows = x if index is None else self._kernels.gather_rows(x, index)
        return rows.contiguous() if self.dtype == "fp32" else _pack_fp16(rows.to(wide(rows.dtype)))

    def room(self, rows: int, features: int, like: Tensor) -> Tensor:
        """An empty tensor that `rows` packed rows of `features` numbers of like.dtype fit into."""
        if self.dtype == "fp32":
            return pool.empty((rows, features), like)
        dtype, columns = {
            "bf16": (torch.bfloat16, features),
            "fp16": (torch.float16, features + 1),
            "int8": (torch.uint8, features + _STEP_BYTES),
            "int4": (torch.uint8, (features + 1) // 2 + _STEP_BYTES),
        }[self.dtype]
        return torch.empty(rows, columns, dtype=dtype, device=like.device)

    def unpack(self, received: Tensor, dtype: torch.dtype, features: int) -> Tensor:
        """The inverse of `pack`: rows [S, F] of `dtype`; `features` is F."""
        if self.dtype in _TOPS:
            written = received[:, :-_STEP_BYTES].contiguous()
            codes = _unpaired(written, features) if self.dtype == "int4" else written.view(torch.int8)
            # clone: the bytes of a single row are contiguous already, at an offset that a float may not have
            scale = received[:, -_STEP_BYTES:].clone(memory_format=torch.contiguous_format)
            return (codes.to(wide(dtype)) * scale.view(torch.float32).to(wide(dtype))).to(dtype)
        if self.dtype == "fp16":
            exact = wide(dtype)
            return received[:, :-1].to(exact).mul_(_power_of_two(-received[:, -1:].to(exact))).to(dtype)
        return received.to(dtype)


def _paired(codes: Tensor) -> Tensor:
    """Codes int8 [S, F] in [-8, 7], two a byte, the even column's in the low half: uint8 [S, F / 2]."""
    whole = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2)).reshape(-1)
    pairs = whole.view(torch.int16).view(codes.shape[0], (codes.shape[1] + 1) // 2)
    return ((pairs & 0x0F) | ((pairs >> 4) & 0xF0)).to(torch.uint8)


def _unpaired(written: Tensor, features: int) -> Tensor:
    """The inverse of `_paired`: int8 [S, F]."""
    halves = written.to(torch.int16)
    low, high = ((halves & 0x0F) ^ 8) - 8, (halves ^ 0x80) - 0x80 >> 4  # the sign of four bits
    both = ((high << 8) | (low & 0xFF)).view(-1).view(torch.int8)
    return both.view(written.shape[0], 2 * written.shape[1])[:, :features]


def _pack_fp16(rows: Tensor) -> Tensor:
    """Rows [S, F] times 2^e as float16, e of each row behind it: [S, F + 1]."""
    largest = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)
    reach = _REACH[rows.dtype]
    shift = (_FP16_TOP - torch.frexp(largest)[1]).clamp(-reach, reach)
    packed = rows.new_empty(rows.shape[0], rows.shape[1] + 1, dtype=torch.float16)
    torch.mul(rows, _power_of_two(shift.to(rows.dtype)), out=packed[:, :-1])
    packed[:, -1:] = shift
    return packed


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent, exactly, in the exponents' dtype."""
    return torch.ldexp(torch.ones_like(exponent), exponent)
