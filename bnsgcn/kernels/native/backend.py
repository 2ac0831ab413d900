"""Our own kernels in C (native/*.h): float32 and float64 on CPU; anything else takes the torch path.

Results are bitwise the same for any number of threads: a row is summed by one thread in the order of its
arcs, and sums over rows are made of chunks of a fixed size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.kernels import pool, random_bits
from bnsgcn.kernels.csr import Csr, id_dtype, shortened
from bnsgcn.kernels.half_rows import wide
from bnsgcn.kernels.native.binding import (
    IDS,
    REALS,
    SUMMED,
    AttentionTask,
    Library,
    SumTask,
    dense,
    matching,
    norm_task,
    on_cpu,
    row_ids,
    row_index,
)
from bnsgcn.kernels.protocol import LayerNorm, Moments
from bnsgcn.kernels.random_bits import Mask
from bnsgcn.kernels.torch_backend import TorchKernels, check_rows

_PREFETCH_ARCS = 8
_ROWS_AT_ONCE = 64
_FORWARD, _DESTINATIONS, _SOURCES = range(3)
"""Passes of attention.h."""
_GATHERS = {
    (torch.float32, torch.float32): "gather_f32_f32",
    (torch.float64, torch.float64): "gather_f64_f64",
    (torch.float32, torch.bfloat16): "gather_f32_bf16",
}
_SCATTERS = {
    (torch.float32, torch.float32): "scatter_f32_f32",
    (torch.float64, torch.float64): "scatter_f64_f64",
    (torch.bfloat16, torch.float32): "scatter_bf16_f32",
    (torch.bfloat16, torch.bfloat16): "scatter_bf16_bf16",
    (torch.int8, torch.float32): "scatter_i8_f32",
}


class CompiledKernels(TorchKernels):
    """Compiled C where it applies, torch elsewhere.

    Raises:
        UserError: there is no compiler or it failed; the message says why.
    """

    name = "compiled"

    def __init__(self) -> None:
        super().__init__()
        self._call = Library().call

    # sums over a block

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
        fits = x.dtype in SUMMED and on_cpu(x, out, csr.indptr) and csr.has_plain_weights
        if not fits or not (out is None or (out.dtype == x.dtype and out.stride(1) == 1)):
            return super().sum_rows(csr, x, row_scale=row_scale, col_scale=col_scale, out=out)
        x = x if x.stride(1) == 1 else x.contiguous()
        result = pool.empty((csr.num_rows, x.shape[1]), x) if out is None else out
        task = SumTask.of(
            indptr=csr.indptr,
            indices=csr.indices,
            num_rows=csr.num_rows,
            num_arcs=csr.num_arcs,
            x=x,
            x_stride=x.stride(0),
            columns=x.shape[1],
            row_scale=matching(row_scale, wide(x.dtype)),
            col_scale=matching(col_scale, wide(x.dtype)),
            weights=csr.weights,
            out=result,
            out_stride=result.stride(0),
            accumulate=out is not None,
            prefetch=_PREFETCH_ARCS,
            rows_at_once=_ROWS_AT_ONCE,
        )
        self._call(f"sum_rows_{_kinds(csr, x)}", task)
        return result

    # rows by index

    def gather_rows(
        self, x: Tensor, index: Tensor, *, scale: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.gather_rows."""
        result = pool.empty((index.numel(), x.shape[1]), x) if out is None else out
        name = _GATHERS.get((x.dtype, result.dtype))
        if name is None or not on_cpu(x, result) or not result.is_contiguous() or x.stride(1) != 1:
            return super().gather_rows(x, index, scale=scale, out=out)
        index, scale = row_index(index, x.shape[0]), matching(scale, x.dtype)
        self._call(name, x, x.stride(0), index, scale, result, index.numel(), x.shape[1], _threads())
        return result

    def scatter_add_rows(
        self, out: Tensor, index: Tensor, rows: Tensor, *, scale: Tensor | None = None
    ) -> None:
        """See Kernels.scatter_add_rows."""
        name = _SCATTERS.get((rows.dtype, out.dtype))
        if name is None or not on_cpu(out, rows) or not out.is_contiguous():
            super().scatter_add_rows(out, index, rows, scale=scale)
            return
        index, scale, rows = (
            row_index(index, out.shape[0]),
            matching(scale, wide(out.dtype)),
            rows.contiguous(),
        )
        self._call(name, out, index, rows, scale, index.numel(), out.shape[1], _threads())

    def pack_int8(self, x: Tensor, index: Tensor | None, key: int, top: int = 127) -> tuple[Tensor, Tensor]:
        """See Kernels.pack_int8."""
        if x.dtype != torch.float32 or not on_cpu(x):
            return super().pack_int8(x, index, key, top)
        x = x if x.stride(1) == 1 else x.contiguous()
        index = None if index is None else row_index(index, x.shape[0])
        count = x.shape[0] if index is None else index.numel()
        codes, scale = torch.empty(count, x.shape[1], dtype=torch.int8), torch.empty(count)
        self._call("pack_i8", x, x.stride(0), index, key, top, codes, scale, count, x.shape[1], _threads())
        return codes, scale

    # elementwise

    def dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.dropout."""
        return self._drop(x, mask, out, False) if dense(x, out) else super().dropout(x, mask, out=out)

    def relu_dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.relu_dropout."""
        return self._drop(x, mask, out, True) if dense(x, out) else super().relu_dropout(x, mask, out=out)

    def _drop(self, x: Tensor, mask: Mask, out: Tensor | None, relu: bool) -> Tensor:
        x, result = x.contiguous(), _room(out, x)
        node_ids = row_ids(mask.node_ids, x.shape[0])
        given = x, result, *x.shape, node_ids, mask.key, mask.levels, mask.scale
        self._call(f"dropout_{REALS[x.dtype]}", *given, relu, _threads())
        return result

    def relu_dropout_backward(
        self, grad: Tensor, output: Tensor, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.relu_dropout_backward."""
        if not dense(grad, out) or output.dtype != grad.dtype:
            return super().relu_dropout_backward(grad, output, p, out=out)
        grad, output, result = grad.contiguous(), output.contiguous(), _room(out, grad)
        given = grad, output, result, grad.numel(), random_bits.keep_scale(p)
        self._call(f"relu_dropout_backward_{REALS[grad.dtype]}", *given, _threads())
        return result

    def norm_relu_dropout(
        self, x: Tensor, norm: LayerNorm, mask: Mask, *, out: Tensor | None = None
    ) -> tuple[Tensor, Moments]:
        """See Kernels.norm_relu_dropout."""
        if not dense(x, out) or not x.shape[1]:
            return super().norm_relu_dropout(x, norm, mask, out=out)
        result = _room(out, x)
        moments = Moments(x.new_empty(x.shape[0]), x.new_empty(x.shape[0]))
        task = norm_task(x, moments, norm, mask, out=result, eps=norm.eps)
        self._call(f"norm_forward_{REALS[x.dtype]}", task)
        return result, moments

    def norm_relu_dropout_backward(
        self,
        grad: Tensor,
        x: Tensor,
        moments: Moments,
        norm: LayerNorm,
        mask: Mask,
        *,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See Kernels.norm_relu_dropout_backward."""
        if not dense(x, out) or grad.dtype != x.dtype or not x.shape[1]:
            return super().norm_relu_dropout_backward(grad, x, moments, norm, mask, out=out)
        result = _room(out, x)
        chunks = max(1, self._call(f"norm_chunks_{REALS[x.dtype]}", x.shape[0]))
        sums = [None if v is None else x.new_zeros(chunks, x.shape[1]) for v in (norm.weight, norm.bias)]
        made = {"out": result, "grad_weight": sums[0], "grad_bias": sums[1]}
        task = norm_task(x, moments, norm, mask, grad=grad.contiguous(), **made)
        self._call(f"norm_backward_{REALS[x.dtype]}", task)
        grad_weight, grad_bias = (None if part is None else part[0].clone() for part in sums)
        return result, grad_weight, grad_bias

    # attention

    def row_max(self, csr: Csr, x: Tensor) -> Tensor:
        """See Kernels.row_max."""
        if x.dtype not in REALS or not on_cpu(x):
            return super().row_max(csr, x)
        check_rows(x, csr)
        x = x.contiguous()
        result = pool.empty((csr.num_rows, x.shape[1]), x)
        given = csr.indptr, csr.indices, csr.num_rows, csr.num_cols, x, x.shape[1], result
        self._call(f"row_max_{_kinds(csr, x)}", *given, _threads())
        return result

    def attention_sum(
        self, csr: Csr, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        """See Kernels.attention_sum."""
        if x.dtype not in REALS or not on_cpu(x):
            return super().attention_sum(csr, score_dst, score_src, x, shift, slope)
        score_dst, score_src, x, shift = (one.contiguous() for one in (score_dst, score_src, x, shift))
        total = pool.empty((csr.num_rows, *x.shape[1:]), x)
        weight = x.new_empty(csr.num_rows, x.shape[1])
        scores, made = (score_dst, score_src), {"out": total, "out_score": weight}
        self._attend(_FORWARD, csr, scores, x, slope, shift=shift, **made)
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
        score_dst, score_src, x = (one.contiguous() for one in (score_dst, score_src, x))
        grad_sum = grad_sum.contiguous()
        common = {"shift": shift.contiguous(), "grad_weight": grad_weight.contiguous()}
        grad_dst, grad_src = torch.empty_like(score_dst), torch.empty_like(score_src)
        grad_x = pool.empty(tuple(x.shape), x)
        made = {"row_x": grad_sum, "out_score": grad_dst}
        self._attend(_DESTINATIONS, csr, (score_dst, score_src), x, slope, **made, **common)
        made = {"row_x": x, "out": grad_x, "out_score": grad_src}
        self._attend(_SOURCES, transposed, (score_src, score_dst), grad_sum, slope, **made, **common)
        return grad_dst, grad_src, grad_x

    def _attend(
        self, kind: int, csr: Csr, scores: tuple[Tensor, Tensor], x: Tensor, slope: float, **fields: Tensor
    ) -> None:
        """One pass of attention.h over the block's rows; `scores` are those of its rows and columns."""
        assert [score.shape[0] for score in scores] == [csr.num_rows, csr.num_cols]
        task = AttentionTask.of(
            indptr=csr.indptr,
            indices=csr.indices,
            num_rows=csr.num_rows,
            heads=x.shape[1],
            width=x.shape[2],
            row_score=scores[0],
            col_score=scores[1],
            col_x=x,
            slope=slope,
            kind=kind,
            **fields,
        )
        self._call(f"attention_{_kinds(csr, x)}", task)

    # structure

    def transpose(self, csr: Csr) -> Csr:
        """See Csr.transpose; a counting pass instead of a sort."""
        dtype = csr.indices.dtype
        if not on_cpu(csr.indices) or id_dtype(csr.num_arcs, csr.num_rows) != dtype:
            return super().transpose(csr)
        indptr = torch.zeros(csr.num_cols + 1, dtype=dtype)
        indices, weights = torch.empty(csr.num_arcs, dtype=dtype), csr.weight_room(csr.num_arcs)
        given = csr.indptr, csr.indices, csr.num_rows, csr.num_cols
        self._call(f"transpose_{IDS[dtype]}", *given, indptr, indices, csr.weights, weights)
        return Csr(indptr, indices, csr.num_cols, csr.num_rows, weights)

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
        indices, weights = torch.empty(int(indptr[-1]), dtype=dtype), csr.weight_room(int(indptr[-1]))
        given = csr.indptr, csr.indices, rows, rows.numel()
        self._call(f"select_rows_{IDS[dtype]}", *given, indptr, indices, csr.weights, weights)
        return Csr(indptr, indices, rows.numel(), csr.num_cols, weights)

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
        indptr, indices = torch.empty_like(csr.indptr), torch.empty(csr.num_arcs + 1, dtype=dtype)
        weights = csr.weight_room(csr.num_arcs + 1)
        given = csr.indptr, csr.indices, csr.num_rows, column_map.contiguous()
        kept = self._call(f"compact_{IDS[dtype]}", *given, indptr, indices, csr.weights, weights)
        weights = None if weights is None else shortened(weights, kept)
        return Csr(indptr, shortened(indices, kept), csr.num_rows, num_cols, weights)


def _threads() -> int:
    """As many threads as torch uses."""
    return torch.get_num_threads()


def _room(out: Tensor | None, x: Tensor) -> Tensor:
    """`out`, or room for as much as x."""
    return pool.empty(tuple(x.shape), x) if out is None else out


def _kinds(csr: Csr, x: Tensor) -> str:
    """The suffix of a native function for x's numbers and the block's ids."""
    return f"{SUMMED[x.dtype]}_{IDS[csr.indices.dtype]}"
