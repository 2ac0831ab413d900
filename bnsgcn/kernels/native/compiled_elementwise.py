"""Compiled elementwise passes: dropout, ReLU, layer norm and their backwards. Shapes: as in protocol.py."""

from __future__ import annotations

import ctypes

from torch import Tensor

from bnsgcn.kernels import pool, random_bits
from bnsgcn.kernels.native.binding import (
    C_REALS,
    REALS,
    NativeKernels,
    address,
    dense,
    int64,
    matching,
    norm_task,
    row_ids,
    threads,
)


class CompiledElementwise(NativeKernels):
    """What reads and writes [N, F] once."""

    def dropout(
        self, x: Tensor, node_ids: Tensor, key: int, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.dropout."""
        if not dense(x, out):
            return super().dropout(x, node_ids, key, p, out=out)
        return self._drop(x, node_ids, key, p, False, out)

    def relu_dropout(
        self, x: Tensor, node_ids: Tensor, key: int, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.relu_dropout."""
        if not dense(x, out):
            return super().relu_dropout(x, node_ids, key, p, out=out)
        return self._drop(x, node_ids, key, p, True, out)

    def _drop(
        self, x: Tensor, node_ids: Tensor, key: int, p: float, relu: bool, out: Tensor | None
    ) -> Tensor:
        x, node_ids = x.contiguous(), row_ids(node_ids, x.shape[0])
        result = pool.empty(tuple(x.shape), x) if out is None else out
        levels = random_bits.keep_levels(p)
        given = (
            address(x),
            address(result),
            int64(x.shape[0]),
            int64(x.shape[1]),
            address(node_ids),
            int64(key),
        )
        scale = C_REALS[x.dtype](random_bits.LEVELS / levels)
        self._call(f"dropout_{REALS[x.dtype]}", *given, levels, scale, int(relu), threads())
        return result

    def relu_dropout_backward(
        self, grad: Tensor, output: Tensor, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """See Kernels.relu_dropout_backward."""
        if not dense(grad, out) or output.dtype != grad.dtype:
            return super().relu_dropout_backward(grad, output, p, out=out)
        grad, output = grad.contiguous(), output.contiguous()
        result = pool.empty(tuple(grad.shape), grad) if out is None else out
        scale = C_REALS[grad.dtype](random_bits.LEVELS / random_bits.keep_levels(p))
        given = address(grad), address(output), address(result), int64(grad.numel())
        self._call(f"relu_dropout_backward_{REALS[grad.dtype]}", *given, scale, threads())
        return result

    def norm_relu_dropout(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        node_ids: Tensor,
        key: int,
        p: float,
        *,
        relu: bool = True,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See Kernels.norm_relu_dropout."""
        if not dense(x, out) or not x.shape[1]:
            return super().norm_relu_dropout(x, weight, bias, eps, node_ids, key, p, relu=relu, out=out)
        x, node_ids = x.contiguous(), row_ids(node_ids, x.shape[0])
        weight, bias = matching(weight, x), matching(bias, x)
        result = pool.empty(tuple(x.shape), x) if out is None else out
        mean, rstd = x.new_empty(x.shape[0]), x.new_empty(x.shape[0])
        made = {"out": result, "mean": mean, "rstd": rstd}
        task = norm_task(x, (node_ids, key, p), **made, weight=weight, bias=bias, eps=eps, relu=int(relu))
        self._call(f"norm_forward_{REALS[x.dtype]}", ctypes.byref(task))
        return result, mean, rstd

    def norm_relu_dropout_backward(
        self,
        grad: Tensor,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        node_ids: Tensor,
        key: int,
        p: float,
        *,
        relu: bool = True,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See Kernels.norm_relu_dropout_backward."""
        if not dense(x, out) or grad.dtype != x.dtype or not x.shape[1]:
            return super().norm_relu_dropout_backward(
                grad, x, mean, rstd, weight, bias, node_ids, key, p, relu=relu, out=out
            )
        grad, x, node_ids = grad.contiguous(), x.contiguous(), row_ids(node_ids, x.shape[0])
        weight, bias = matching(weight, x), matching(bias, x)
        result = pool.empty(tuple(x.shape), x) if out is None else out
        chunks = max(1, self._call(f"norm_chunks_{REALS[x.dtype]}", int64(x.shape[0]), returns=int64))
        sums = [None if given is None else x.new_zeros(chunks, x.shape[1]) for given in (weight, bias)]
        given = {"grad": grad, "mean": mean, "rstd": rstd, "weight": weight, "bias": bias}
        made = {"out": result, "grad_weight": sums[0], "grad_bias": sums[1]}
        task = norm_task(x, (node_ids, key, p), **given, **made, relu=int(relu))
        self._call(f"norm_backward_{REALS[x.dtype]}", ctypes.byref(task))
        grad_weight, grad_bias = (None if part is None else part[0].clone() for part in sums)
        return result, grad_weight, grad_bias
