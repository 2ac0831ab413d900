"""The backend of our Triton kernels; what they have no use for takes the torch path.

Float32, bfloat16 and float16 are added up in float32, float64 in float64. Results are bitwise the same every
time: nothing is added atomically. Nothing here asks the device for a number, so nothing waits for it.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.protocol import LayerNorm, Moments
from bnsgcn.kernels.random_bits import Mask
from bnsgcn.kernels.torch_backend import TorchKernels, check_rows
from bnsgcn.kernels.triton import attend, dropping, fused_norm, packing, row_sums
from bnsgcn.kernels.triton.row_schedule import Schedules
from bnsgcn.kernels.triton.tiles import WIDEST

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether Triton interprets kernels, on CPU, for tests: TRITON_INTERPRET was 1 when it was imported."""


class TritonKernels(TorchKernels):
    """Triton where it applies, torch elsewhere."""

    name = "triton"

    def __init__(self) -> None:
        super().__init__()
        self._schedules, self._orders = Schedules(), packing.Orders()

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
        if not _fits(x, out):
            return super().sum_rows(csr, x, row_scale=row_scale, col_scale=col_scale, out=out)
        result = x.new_empty(csr.num_rows, x.shape[1]) if out is None else out
        row_sums.sum_rows(
            self._schedules.of(csr),
            csr,
            _with_whole_rows(x),
            result,
            add=out is not None,
            row_scale=_packed(row_scale),
            col_scale=_packed(col_scale),
        )
        return result

    # rows by index

    def gather_rows(
        self, x: Tensor, index: Tensor, *, scale: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.gather_rows. Indices are not checked: that would wait for the device."""
        result = x.new_empty(index.numel(), x.shape[1]) if out is None else out
        if not _fits(x, result):
            return super().gather_rows(x, index, scale=scale, out=out)
        packing.gather_rows(_with_whole_rows(x), index.contiguous(), _packed(scale), result)
        return result

    def scatter_add_rows(
        self, out: Tensor, index: Tensor, rows: Tensor, *, scale: Tensor | None = None
    ) -> None:
        """See Kernels.scatter_add_rows; the index is sorted the first time that it is seen."""
        if not _fits(out) or rows.dtype not in (*FLOATS, torch.int8):
            super().scatter_add_rows(out, index, rows, scale=scale)
            return
        order = self._orders.of(index, max(out.shape[0], rows.shape[0]))
        packing.scatter_add_rows(out, order, _with_whole_rows(rows), _packed(scale))

    def pack_int8(self, x: Tensor, index: Tensor | None, key: int, top: int = 127) -> tuple[Tensor, Tensor]:
        """See Kernels.pack_int8."""
        if not _fits(x) or not x.shape[1]:
            return super().pack_int8(x, index, key, top)
        count = x.shape[0] if index is None else index.numel()
        codes = torch.empty(count, x.shape[1], dtype=torch.int8, device=x.device)
        scale = torch.empty(count, dtype=torch.float32, device=x.device)
        packing.pack_int8(_with_whole_rows(x), _packed(index), key, top, codes, scale)
        return codes, scale

    # elementwise

    def dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.dropout."""
        return self._drop(x, mask, out, False) if _dense(x, out) else super().dropout(x, mask, out=out)

    def relu_dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.relu_dropout."""
        return self._drop(x, mask, out, True) if _dense(x, out) else super().relu_dropout(x, mask, out=out)

    def _drop(self, x: Tensor, mask: Mask, out: Tensor | None, relu: bool) -> Tensor:
        result = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        dropping.drop(x.contiguous(), _of_rows(mask, x), result, relu=relu)
        return result

    def relu_dropout_backward(
        self, grad: Tensor, output: Tensor, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.relu_dropout_backward."""
        if not _dense(grad, out) or output.dtype not in FLOATS:
            return super().relu_dropout_backward(grad, output, p, out=out)
        result = torch.empty_like(grad, memory_format=torch.contiguous_format) if out is None else out
        dropping.relu_backward(grad.contiguous(), output.contiguous(), p, result)
        return result

    def norm_relu_dropout(
        self, x: Tensor, norm: LayerNorm, mask: Mask, *, out: Tensor | None = None
    ) -> tuple[Tensor, Moments]:
        """See Kernels.norm_relu_dropout."""
        if not _dense(x, out) or not 0 < x.shape[1] <= WIDEST:
            return super().norm_relu_dropout(x, norm, mask, out=out)
        x = x.contiguous()
        result = torch.empty_like(x) if out is None else out
        dtype = row_sums.sum_dtype(x.dtype)
        moments = Moments(*(torch.empty(x.shape[0], dtype=dtype, device=x.device) for _ in range(2)))
        fused_norm.norm_forward(x, norm, _of_rows(mask, x), result, moments)
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
        if not _dense(x, out) or grad.dtype not in FLOATS or not 0 < x.shape[1] <= WIDEST:
            return super().norm_relu_dropout_backward(grad, x, moments, norm, mask, out=out)
        x = x.contiguous()
        result = torch.empty_like(x) if out is None else out
        sums = fused_norm.norm_backward(grad.contiguous(), x, moments, norm, _of_rows(mask, x), result)
        return result, *sums

    # attention

    def row_max(self, csr: Csr, x: Tensor) -> Tensor:
        """See Kernels.row_max."""
        if not _fits(x) or x.shape[1] > WIDEST:
            return super().row_max(csr, x)
        check_rows(x, csr)
        result = x.new_empty(csr.num_rows, x.shape[1])
        attend.row_max(self._schedules.of(csr), csr, x.contiguous(), result)
        return result

    def attention_sum(
        self, csr: Csr, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        """See Kernels.attention_sum."""
        if not _attends(x):
            return super().attention_sum(csr, score_dst, score_src, x, shift, slope)
        out = x.new_empty(csr.num_rows, *x.shape[1:])
        weight = score_dst.new_empty(csr.num_rows, x.shape[1])
        attend.attend(
            attend.FORWARD,
            self._schedules.of(csr),
            csr,
            (score_dst.contiguous(), score_src.contiguous()),
            x.contiguous(),
            shift.contiguous(),
            slope,
            out=out,
            out_score=weight,
        )
        return out, weight

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
        if not _attends(x):
            return super().attention_sum_backward(
                csr, transposed, score_dst, score_src, x, shift, slope, grad_sum, grad_weight
            )
        dst, src, x = score_dst.contiguous(), score_src.contiguous(), x.contiguous()
        grad_sum, shift, grad_weight = grad_sum.contiguous(), shift.contiguous(), grad_weight.contiguous()
        grad_dst, grad_src, grad_x = torch.empty_like(dst), torch.empty_like(src), torch.empty_like(x)
        schedule = self._schedules.of(csr)
        made = {"own_x": grad_sum, "grad_weight": grad_weight, "out_score": grad_dst}
        attend.attend(attend.DESTINATIONS, schedule, csr, (dst, src), x, shift, slope, **made)
        schedule = self._schedules.of(transposed)
        made = {"own_x": x, "grad_weight": grad_weight, "out_score": grad_src, "out": grad_x}
        attend.attend(attend.SOURCES, schedule, transposed, (src, dst), grad_sum, shift, slope, **made)
        return grad_dst, grad_src, grad_x


def _fits(*matrices: Tensor | None) -> bool:
    """Whether all are of numbers that the kernels take; those that are written need whole rows."""
    return all(m is None or m.dtype in FLOATS for m in matrices) and all(
        m is None or m.stride(1) == 1 or m.shape[1] == 1 for m in matrices[1:]
    )


def _dense(x: Tensor, out: Tensor | None) -> bool:
    return x.dtype in FLOATS and (out is None or (out.dtype in FLOATS and out.is_contiguous()))


def _attends(x: Tensor) -> bool:
    return x.dtype in FLOATS and x.shape[1] > 0 and 0 < x.shape[2] <= WIDEST


def _with_whole_rows(x: Tensor) -> Tensor:
    """x with the entries of a row side by side."""
    return x if x.stride(1) == 1 else x.contiguous()


def _packed(vector: Tensor | None) -> Tensor | None:
    return None if vector is None else vector.contiguous()


def _of_rows(mask: Mask, x: Tensor) -> Mask:
    """The mask, of as many rows as x.

    Raises:
        ValueError: it has another number of node ids.
    """
    if mask.node_ids.numel() != x.shape[0]:
        raise ValueError(f"{mask.node_ids.numel()} node ids for {x.shape[0]} rows")
    return mask
