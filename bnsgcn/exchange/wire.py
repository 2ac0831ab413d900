"""How rows look while they travel: fp32 (as computed), bf16, fp16, or int8 with a scale per row.

    N rows at the sender   S rows sent   F features   W bytes of a row on the wire

int8 rounds stochastically with the counter-based generator, so the mean over the generator's keys is the
row itself (unbiased), and the same key gives the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.config import WireDtype
from bnsgcn.kernels import Kernels, pool

_CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Wire:
    """Packs rows for the wire and unpacks them again."""

    def __init__(self, dtype: WireDtype, kernels: Kernels) -> None:
        self.dtype = dtype
        self._kernels = kernels

    def row_bytes(self, features: int, computed: torch.dtype) -> int:
        """Bytes of one row of `features` numbers of dtype `computed` on the wire."""
        if self.dtype == "int8":
            return features + 4
        return features * (_CASTS.get(self.dtype) or computed).itemsize

    def pack(self, x: Tensor, index: Tensor | None, key: int) -> Tensor:
        """Rows `index` int64 [S] of x [N, F] (None = all) as they travel: [S, F]; int8: uint8 [S, F + 4]."""
        if self.dtype == "int8":
            codes, scale = self._kernels.pack_int8(x, index, key)
            return torch.cat([codes.view(torch.uint8), scale.view(-1, 1).view(torch.uint8)], dim=1)
        rows = x if index is None else self._kernels.gather_rows(x, index)
        cast = _CASTS.get(self.dtype)
        if cast is torch.float16:
            rows = rows.clamp(-65504, 65504)  # fp16 has no room above; infinity would end the run
        return rows.contiguous() if cast is None else rows.to(cast)

    def room(self, rows: int, features: int, like: Tensor) -> Tensor:
        """An empty tensor that `rows` packed rows of `features` numbers of like.dtype fit into."""
        if self.dtype == "int8":
            return torch.empty(rows, features + 4, dtype=torch.uint8, device=like.device)
        return pool.empty((rows, features), like.new_empty(0, dtype=_CASTS.get(self.dtype) or like.dtype))

    def unpack(self, received: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse of `pack`: rows [S, F] of `dtype`."""
        if self.dtype != "int8":
            return received.to(dtype)
        codes = received[:, :-4].contiguous().view(torch.int8)
        # clone: the bytes of a single row are contiguous already, at an offset that a float may not have
        scale = received[:, -4:].clone(memory_format=torch.contiguous_format).view(torch.float32)
        return codes.to(dtype) * scale.to(dtype)
