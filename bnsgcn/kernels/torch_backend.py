"""The backend that needs torch alone: every device, every float dtype.

Sums run on torch's sparse products; arcs are never expanded to [E, F] except on attention, in pieces.
Shapes: as in protocol.py.
"""

from __future__ import annotations

import warnings
import weakref

import torch
from torch import Tensor

from bnsgcn.kernels import half_rows, random_bits
from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.half_rows import HALF
from bnsgcn.kernels.protocol import LayerNorm, Moments
from bnsgcn.kernels.random_bits import Mask

_ARCS_AT_ONCE = 1 << 16


class TorchKernels:
    """torch operations only."""

    name = "torch"

    def __init__(self) -> None:
        self._adjacencies: weakref.WeakKeyDictionary[Csr, Tensor] = weakref.WeakKeyDictionary()

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
        """See Kernels.sum_rows."""
        check_rows(x, csr)
        if x.dtype == HALF:
            scales = {"row_scale": row_scale, "col_scale": col_scale}
            return half_rows.narrow(self.sum_rows(csr, x.float(), **scales), out)
        result = self._plain_sum(csr, x if col_scale is None else x * col_scale[:, None])
        if row_scale is not None:
            result *= row_scale[:, None]
        return result if out is None else out.add_(result)

    def _plain_sum(self, csr: Csr, x: Tensor) -> Tensor:
        if csr.num_arcs == 0 or x.shape[1] == 0:
            return x.new_zeros(csr.num_rows, x.shape[1])
        adjacency = self._adjacencies.get(csr)
        if adjacency is None or adjacency.dtype != x.dtype:
            values = _ones(csr, x.dtype) if csr.weights is None else csr.weights.to(x.dtype)
            adjacency = _sparse(csr, csr.indices, values, csr.num_cols)
            self._adjacencies[csr] = adjacency
        return _multiply(adjacency, x.contiguous())

    # rows by index

    def gather_rows(
        self, x: Tensor, index: Tensor, *, scale: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.gather_rows."""
        rows = x.index_select(0, index)
        if scale is not None:
            rows *= scale[:, None]
        return rows if out is None else out.copy_(rows)

    def scatter_add_rows(
        self, out: Tensor, index: Tensor, rows: Tensor, *, scale: Tensor | None = None
    ) -> None:
        """See Kernels.scatter_add_rows. On CUDA the sorting form is used: the plain one adds in any order."""
        exact = torch.float32 if out.dtype == HALF else out.dtype
        if scale is not None:
            rows = rows.to(exact) * scale.to(exact)[:, None]
        rows = rows.to(out.dtype)
        if out.device.type == "cpu":
            out.index_add_(0, index, rows)
        else:
            out.index_put_((index.to(torch.int64),), rows, accumulate=True)

    def pack_int8(self, x: Tensor, index: Tensor | None, key: int, top: int = 127) -> tuple[Tensor, Tensor]:
        """See Kernels.pack_int8."""
        rows = (x if index is None else x.index_select(0, index)).float()
        if x.dtype == HALF:
            return self.pack_int8(rows, None, key, top)
        largest = rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(rows.shape[0])
        # torch divides a number by a tensor through the reciprocal, which rounds twice
        levels = torch.full_like(largest, top * random_bits.LEVELS).div_(largest)
        levels = torch.where(largest > 0, levels, 0.0)
        fine = (rows * levels[:, None]).round_().to(torch.int32)
        fine += random_bits.bits(key, torch.arange(rows.shape[0], device=x.device), rows.shape[1])
        return (fine >> 16).to(torch.int8), torch.where(largest.isfinite(), largest / top, torch.nan)

    # elementwise

    def dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.dropout."""
        if x.dtype == HALF:
            return half_rows.elementwise(self.dropout, x, mask, out)
        return _into(out, torch.where(mask.kept(x.shape[1]), x * mask.scale, 0.0))

    def relu_dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """See Kernels.relu_dropout."""
        if x.dtype == HALF:
            return half_rows.elementwise(self.relu_dropout, x, mask, out)
        return self.dropout(torch.relu(x), mask, out=out)

    def relu_dropout_backward(
        self, grad: Tensor, output: Tensor, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.relu_dropout_backward."""
        return _into(out, torch.where(output <= 0, 0.0, grad * random_bits.keep_scale(p)))

    def norm_relu_dropout(
        self, x: Tensor, norm: LayerNorm, mask: Mask, *, out: Tensor | None = None
    ) -> tuple[Tensor, Moments]:
        """See Kernels.norm_relu_dropout."""
        if x.dtype == HALF:
            return half_rows.norm_forward(self, x, norm, mask, out)
        normed, mean, rstd = torch.native_layer_norm(x, x.shape[1:], norm.weight, norm.bias, norm.eps)
        return self.relu_dropout(normed, mask, out=out), Moments(mean[:, 0], rstd[:, 0])

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
        if x.dtype == HALF:
            return half_rows.norm_backward(self, grad, x, moments, norm, mask, out)
        weight, bias, rstd = norm.weight, norm.bias, moments.rstd[:, None]
        normed = (x - moments.mean[:, None]) * rstd
        scaled = normed if weight is None else normed * weight
        inner = self.dropout(grad, mask)
        inner = torch.where((scaled if bias is None else scaled + bias) <= 0, 0.0, inner)
        grad_weight = None if weight is None else (inner * normed).sum(0)
        grad_bias = None if bias is None else inner.sum(0)
        if weight is not None:
            inner = inner * weight
        slant = (inner * normed).mean(1, keepdim=True)
        result = (inner - inner.mean(1, keepdim=True) - normed * slant) * rstd
        return _into(out, result), grad_weight, grad_bias

    # attention

    def row_max(self, csr: Csr, x: Tensor) -> Tensor:
        """See Kernels.row_max."""
        rows = csr.row_ids().to(torch.int64)[:, None].expand(-1, x.shape[1])
        empty = x.new_full((csr.num_rows, x.shape[1]), -torch.inf)
        return empty.scatter_reduce_(0, rows, x.index_select(0, csr.indices), "amax")

    def attention_sum(
        self, csr: Csr, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        """See Kernels.attention_sum."""
        scores = _arc_scores(csr.row_ids(), csr.indices, score_dst, score_src)
        weights = _weigh(scores, shift.index_select(0, csr.row_ids()), slope)
        return self._weighted_sum(csr, weights, x), self._arc_sum(csr, weights)

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
        """See Kernels.attention_sum_backward. Each side sums over its own block, in the order of its arcs."""

        def per_arc(dst: Tensor, src: Tensor) -> tuple[Tensor, Tensor]:
            scores = _arc_scores(dst, src, score_dst, score_src)
            weights = _weigh(scores, shift.index_select(0, dst), slope)
            slopes = torch.ones_like(scores).masked_fill_(scores <= 0, slope)  # where(1.0, slope) is float32
            towards = grad_weight.index_select(0, dst) + _arc_products(dst, src, grad_sum, x)
            return weights, weights * slopes * towards

        grad_dst = self._arc_sum(csr, per_arc(csr.row_ids(), csr.indices)[1])
        weights, grad_scores = per_arc(transposed.indices, transposed.row_ids())
        return (
            grad_dst,
            self._arc_sum(transposed, grad_scores),
            self._weighted_sum(transposed, weights, grad_sum),
        )

    def _weighted_sum(self, csr: Csr, weights: Tensor, x: Tensor) -> Tensor:
        """Row sums of weights [E, h] times x [C, h, d]: [R, h, d]."""
        total = x.new_zeros(csr.num_rows, *x.shape[1:])
        if csr.num_arcs and x.shape[2]:
            for head in range(x.shape[1]):
                adjacency = _sparse(csr, csr.indices, weights[:, head].contiguous(), csr.num_cols)
                total[:, head] = _multiply(adjacency, x[:, head].contiguous())
        return total

    def _arc_sum(self, csr: Csr, values: Tensor) -> Tensor:
        """Row sums of one row of numbers per arc: [E, h] -> [R, h]."""
        if not csr.num_arcs:
            return values.new_zeros(csr.num_rows, values.shape[1])
        arcs = torch.arange(csr.num_arcs, dtype=csr.indices.dtype, device=csr.device)
        return _multiply(_sparse(csr, arcs, _ones(csr, values.dtype), csr.num_arcs), values.contiguous())

    # structure

    def transpose(self, csr: Csr) -> Csr:
        """See Csr.transpose."""
        return csr.transpose()

    def select_rows(self, csr: Csr, rows: Tensor) -> Csr:
        """See Csr.select_rows."""
        return csr.select_rows(rows)

    def compact(self, csr: Csr, column_map: Tensor, num_cols: int) -> Csr:
        """See Csr.compact."""
        return csr.compact(column_map, num_cols)


def _into(out: Tensor | None, result: Tensor) -> Tensor:
    return result if out is None else out.copy_(result)


def check_rows(x: Tensor, csr: Csr) -> None:
    """ValueError when `x` is not a matrix with a row for every column of the block."""
    if x.dim() != 2 or x.shape[0] != csr.num_cols:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, the block has {csr.num_cols} columns; pass one row for each"
        )


def _ones(csr: Csr, dtype: torch.dtype) -> Tensor:
    """A one for each arc; on CPU a single number, because the product there honours a stride of 0."""
    ones = torch.ones(1, dtype=dtype, device=csr.device).expand(csr.num_arcs)
    return ones if csr.device.type == "cpu" else ones.contiguous()


def _sparse(csr: Csr, columns: Tensor, values: Tensor, num_cols: int) -> Tensor:
    """torch's CSR tensor of the block's rows with other columns and values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Sparse CSR tensor support is in beta.*")
        return torch.sparse_csr_tensor(
            csr.indptr, columns, values, (csr.num_rows, num_cols), check_invariants=False
        )


def _multiply(adjacency: Tensor, x: Tensor) -> Tensor:
    """The product; on CPU the reduce form, which is faster than the general one and has int32 ids."""
    if x.device.type == "cpu":
        reduced: Tensor = torch.sparse.mm(adjacency, x, "sum")
        return reduced
    return torch.mm(adjacency, x)


def _arc_scores(dst: Tensor, src: Tensor, score_dst: Tensor, score_src: Tensor) -> Tensor:
    """score_dst[r] + score_src[c] of every arc: [E, h]."""
    return score_dst.index_select(0, dst) + score_src.index_select(0, src)


def _weigh(scores: Tensor, shift: Tensor, slope: float) -> Tensor:
    """exp(leaky_relu(score) - shift) of every arc: [E, h]."""
    return torch.exp(torch.nn.functional.leaky_relu(scores, slope) - shift)


def _arc_products(dst: Tensor, src: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Inner product of left[r] and right[c] per arc and head: [E, h], a piece of the arcs at a time."""
    products = left.new_empty(dst.numel(), left.shape[1])
    for first in range(0, dst.numel(), _ARCS_AT_ONCE):
        arcs = slice(first, first + _ARCS_AT_ONCE)
        pairs = left.index_select(0, dst[arcs]) * right.index_select(0, src[arcs])
        torch.sum(pairs, dim=2, out=products[arcs])
    return products
