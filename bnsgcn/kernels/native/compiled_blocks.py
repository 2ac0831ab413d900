"""Compiled sums over blocks, attention, and blocks made from blocks. Shapes: as in protocol.py."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from bnsgcn.kernels import pool
from bnsgcn.kernels.csr import Csr, id_dtype
from bnsgcn.kernels.native.binding import (
    IDS,
    REALS,
    NativeKernels,
    SumTask,
    address,
    attention_task,
    int64,
    matching,
    on_cpu,
    row_index,
    threads,
)
from bnsgcn.kernels.torch_backend import check_rows

_PREFETCH_ARCS = 8
_ROWS_AT_ONCE = 64
_FORWARD, _DESTINATIONS, _SOURCES = range(3)
"""Passes of attention.h."""


class CompiledBlocks(NativeKernels):
    """What reads a Csr."""

    def sum_rows(
        self,
        csr: Csr,
        x: Tensor,
        *,
        row_scale: Tensor | None = None,
        col_scale: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """See Kernels.sum_rows. `x` and `out` may be column slices of wider matrices."""
        check_rows(x, csr)
        if not (_summable(x, out) and on_cpu(csr.indptr)):
            return super().sum_rows(csr, x, row_scale=row_scale, col_scale=col_scale, out=out)
        x = x if x.stride(1) == 1 else x.contiguous()
        result = pool.empty((csr.num_rows, x.shape[1]), x) if out is None else out
        scales = matching(row_scale, x), matching(col_scale, x)
        task = SumTask(
            *(address(csr.indptr), address(csr.indices), csr.num_rows, csr.num_arcs),
            *(address(x), x.stride(0), x.shape[1], address(scales[0]), address(scales[1])),
            *(address(result), result.stride(0), out is not None, _PREFETCH_ARCS, _ROWS_AT_ONCE, threads()),
        )
        self._call(f"sum_rows_{_kind(csr, x)}", ctypes.byref(task))
        return result

    def row_max(self, csr: Csr, x: Tensor) -> Tensor:
        """See Kernels.row_max."""
        if x.dtype not in REALS or not on_cpu(x):
            return super().row_max(csr, x)
        x = x.contiguous()
        result = pool.empty((csr.num_rows, x.shape[1]), x)
        block = address(csr.indptr), address(csr.indices), int64(csr.num_rows)
        self._call(
            f"row_max_{_kind(csr, x)}", *block, address(x), int64(x.shape[1]), address(result), threads()
        )
        return result

    def attention_sum(
        self, csr: Csr, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        """See Kernels.attention_sum."""
        if x.dtype not in REALS or not on_cpu(x):
            return super().attention_sum(csr, score_dst, score_src, x, shift, slope)
        given = [tensor.contiguous() for tensor in (score_dst, score_src, x, shift)]
        _, heads, width = x.shape
        total, weight = pool.empty((csr.num_rows, heads, width), x), x.new_empty(csr.num_rows, heads)
        task = attention_task(
            x.dtype,
            **_fields(csr, _FORWARD),
            **{"heads": heads, "width": width, "slope": slope, "shift": given[3], "col_x": given[2]},
            **{"row_score": given[0], "col_score": given[1], "out": total, "out_score": weight},
        )
        self._call(f"attention_{_kind(csr, x)}", ctypes.byref(task))
        return total, weight

    def attention_sum_backward(
        self,
        csr: Csr,
        transposed: Csr,
        score_dst: Tensor,
        score_src: Tensor,
        x: Tensor,
        shift: Tensor,
        slope: float,
        grad_sum: Tensor,
        grad_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See Kernels.attention_sum_backward: one pass over the block, one over its transpose."""
        if x.dtype not in REALS or not on_cpu(x):
            return super().attention_sum_backward(
                csr, transposed, score_dst, score_src, x, shift, slope, grad_sum, grad_weight
            )
        score_dst, score_src, x = score_dst.contiguous(), score_src.contiguous(), x.contiguous()
        shift, grad_sum, grad_weight = shift.contiguous(), grad_sum.contiguous(), grad_weight.contiguous()
        grad_dst, grad_src = torch.empty_like(score_dst), torch.empty_like(score_src)
        grad_x = pool.empty(tuple(x.shape), x)
        common = {"heads": x.shape[1], "width": x.shape[2], "slope": slope, "shift": shift}
        common["grad_weight"] = grad_weight
        towards = attention_task(
            x.dtype,
            **_fields(csr, _DESTINATIONS),
            **{"row_score": score_dst, "col_score": score_src, "row_x": grad_sum, "col_x": x},
            **{"out_score": grad_dst, **common},
        )
        self._call(f"attention_{_kind(csr, x)}", ctypes.byref(towards))
        away = attention_task(
            x.dtype,
            **_fields(transposed, _SOURCES),
            **{"row_score": score_src, "col_score": score_dst, "row_x": x, "col_x": grad_sum},
            **{"out": grad_x, "out_score": grad_src, **common},
        )
        self._call(f"attention_{_kind(transposed, x)}", ctypes.byref(away))
        return grad_dst, grad_src, grad_x

    def transpose(self, csr: Csr) -> Csr:
        """See Csr.transpose; a counting pass instead of a sort."""
        dtype = csr.indices.dtype
        if not on_cpu(csr.indices) or id_dtype(csr.num_arcs, csr.num_rows) != dtype:
            return super().transpose(csr)
        indptr = torch.zeros(csr.num_cols + 1, dtype=dtype)
        indices = torch.empty(csr.num_arcs, dtype=dtype)
        sizes = int64(csr.num_rows), int64(csr.num_cols)
        block = address(csr.indptr), address(csr.indices)
        self._call(f"transpose_{IDS[dtype]}", *block, *sizes, address(indptr), address(indices))
        return Csr(indptr, indices, csr.num_cols, csr.num_rows)

    def select_rows(self, csr: Csr, rows: Tensor) -> Csr:
        """See Csr.select_rows."""
        if not on_cpu(csr.indices, rows) or rows.dtype == torch.bool:
            return super().select_rows(csr, rows)
        rows = row_index(rows, csr.num_rows)
        indptr = torch.zeros(rows.numel() + 1, dtype=torch.int64)
        torch.cumsum((csr.indptr[1:] - csr.indptr[:-1])[rows], 0, out=indptr[1:])
        dtype = csr.indices.dtype
        if id_dtype(int(indptr[-1]), csr.num_cols) != dtype:
            return super().select_rows(csr, rows)
        indptr = indptr.to(dtype)
        indices = torch.empty(int(indptr[-1]), dtype=dtype)
        chosen = address(rows), int64(rows.numel())
        block = address(csr.indptr), address(csr.indices)
        self._call(f"select_rows_{IDS[dtype]}", *block, *chosen, address(indptr), address(indices))
        return Csr(indptr, indices, rows.numel(), csr.num_cols)

    def compact(self, csr: Csr, column_map: Tensor, num_cols: int) -> Csr:
        """See Csr.compact; one pass."""
        dtype = csr.indices.dtype
        fits = on_cpu(csr.indices, column_map) and column_map.dtype == torch.int32
        if not fits or id_dtype(csr.num_arcs, num_cols) != dtype:
            return super().compact(csr, column_map, num_cols)
        if column_map.numel() != csr.num_cols:
            raise ValueError(
                f"the column map has {column_map.numel()} entries, the block {csr.num_cols} columns"
            )
        column_map = column_map.contiguous()
        indptr, indices = torch.empty_like(csr.indptr), torch.empty(csr.num_arcs + 1, dtype=dtype)
        block = address(csr.indptr), address(csr.indices), int64(csr.num_rows)
        made = address(column_map), address(indptr), address(indices)
        kept = self._call(f"compact_{IDS[dtype]}", *block, *made, returns=int64)
        indices = indices[:kept]
        # A block that lost much does not keep the room it was made in.
        return Csr(indptr, indices.clone() if 2 * kept < csr.num_arcs else indices, csr.num_rows, num_cols)


def _summable(x: Tensor, out: Tensor | None) -> bool:
    if x.dtype not in REALS or not on_cpu(x, out):
        return False
    return out is None or (out.dtype == x.dtype and out.stride(1) == 1)


def _kind(csr: Csr, x: Tensor) -> str:
    """The suffix of a native function for x's numbers and the block's ids."""
    return f"{REALS[x.dtype]}_{IDS[csr.indices.dtype]}"


def _fields(csr: Csr, kind: int) -> dict[str, Any]:
    """A block and a pass as fields of an attention task."""
    return {"indptr": csr.indptr, "indices": csr.indices, "num_rows": csr.num_rows, "kind": kind}
