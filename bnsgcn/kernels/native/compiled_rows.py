"""Compiled gathers and scatters of rows, and the formats in which rows travel. Shapes: as in protocol.py."""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.kernels import pool
from bnsgcn.kernels.native.binding import NativeKernels, address, int64, matching, on_cpu, row_index, threads

_GATHERS = {
    (torch.float32, torch.float32): "gather_f32_f32",
    (torch.float64, torch.float64): "gather_f64_f64",
    (torch.float32, torch.bfloat16): "gather_f32_bf16",
}
_SCATTERS = {
    (torch.float32, torch.float32): "scatter_f32_f32",
    (torch.float64, torch.float64): "scatter_f64_f64",
    (torch.bfloat16, torch.float32): "scatter_bf16_f32",
    (torch.int8, torch.float32): "scatter_i8_f32",
}


class CompiledRows(NativeKernels):
    """What reads or writes rows by index."""

    def gather_rows(
        self, x: Tensor, index: Tensor, *, scale: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.gather_rows."""
        result = pool.empty((index.numel(), x.shape[1]), x) if out is None else out
        name = _GATHERS.get((x.dtype, result.dtype))
        if name is None or not on_cpu(x, result) or not result.is_contiguous() or x.stride(1) != 1:
            return super().gather_rows(x, index, scale=scale, out=out)
        index, scale = row_index(index, x.shape[0]), matching(scale, x)
        given = address(x), int64(x.stride(0)), address(index), address(scale), address(result)
        self._call(name, *given, int64(index.numel()), int64(x.shape[1]), threads())
        return result

    def scatter_add_rows(
        self, out: Tensor, index: Tensor, rows: Tensor, *, scale: Tensor | None = None
    ) -> None:
        """See Kernels.scatter_add_rows."""
        name = _SCATTERS.get((rows.dtype, out.dtype))
        if name is None or not on_cpu(out, rows) or not out.is_contiguous():
            super().scatter_add_rows(out, index, rows, scale=scale)
            return
        index, scale, rows = row_index(index, out.shape[0]), matching(scale, out), rows.contiguous()
        given = address(out), address(index), address(rows), address(scale)
        self._call(name, *given, int64(index.numel()), int64(out.shape[1]), threads())

    def pack_int8(self, x: Tensor, index: Tensor | None, key: int) -> tuple[Tensor, Tensor]:
        """See Kernels.pack_int8."""
        if x.dtype != torch.float32 or not on_cpu(x):
            return super().pack_int8(x, index, key)
        x = x if x.stride(1) == 1 else x.contiguous()
        index = None if index is None else row_index(index, x.shape[0])
        count = x.shape[0] if index is None else index.numel()
        codes, scale = torch.empty(count, x.shape[1], dtype=torch.int8), torch.empty(count)
        given = address(x), int64(x.stride(0)), address(index), int64(key), address(codes), address(scale)
        self._call("pack_i8", *given, int64(count), int64(x.shape[1]), threads())
        return codes, scale

    def unpack_int8(self, rows: Tensor, scale: Tensor, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.unpack_int8."""
        result = torch.empty(rows.shape, device=rows.device) if out is None else out
        if result.dtype != torch.float32 or not on_cpu(rows, result) or not result.is_contiguous():
            return super().unpack_int8(rows, scale, out=out)
        rows, scale = rows.contiguous(), scale.float().contiguous()
        given = address(rows), address(scale), address(result)
        self._call("unpack_i8", *given, int64(rows.shape[0]), int64(rows.shape[1]), threads())
        return result
