"""Differentiable operations over a backend's plain kernels. Gradients of gradients are not provided.

Shapes:
    R rows of a block   C its columns   N rows   F features   h heads   d features of a head
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.protocol import Kernels, LayerNorm, Moments
from bnsgcn.kernels.random_bits import Mask


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A sparse block, the kernels that sum, and the block's transpose where that is known already."""

    csr: Csr
    kernels: Kernels
    known: Csr | None = None

    @functools.cached_property
    def transposed(self) -> Csr:
        """What a backward sums over, made when it is first asked for: a forward alone has no use for it."""
        made = self.kernels.transpose(self.csr) if self.known is None else self.known
        assert (self.csr.num_rows, self.csr.num_cols) == (made.num_cols, made.num_rows)
        assert self.csr.num_arcs == made.num_arcs
        return made


class _SumBlock(torch.autograd.Function):
    """Scaled row sums.

    | tensor    | shape  | forward                                | backward                           |
    |-----------|--------|----------------------------------------|------------------------------------|
    | x         | [C, F] |                                        | col_scale * A^T (row_scale * grad) |
    | addend    | [R, F] | added to in place when given           | grad                               |
    | row_scale | [R]    | constant                               |                                    |
    | col_scale | [C]    | constant                               |                                    |
    | result    | [R, F] | addend + row_scale * A (col_scale * x) | grad                               |

    Pitfall: the scales swap their sides in backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        addend: Tensor | None,
        block: Block,
        row_scale: Tensor | None,
        col_scale: Tensor | None,
    ) -> Tensor:
        ctx.block, ctx.scales = block, (row_scale, col_scale)
        if addend is not None:
            ctx.mark_dirty(addend)
        return block.kernels.sum_rows(block.csr, x, row_scale=row_scale, col_scale=col_scale, out=addend)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        row_scale, col_scale = ctx.scales
        needs_x, needs_addend = ctx.needs_input_grad[:2]
        grad_x = None
        if needs_x:
            grad_x = ctx.block.kernels.sum_rows(
                ctx.block.transposed, grad.contiguous(), row_scale=col_scale, col_scale=row_scale
            )
        return grad_x, grad if needs_addend else None, None, None, None


def sum_block(
    block: Block,
    x: Tensor,
    *,
    row_scale: Tensor | None = None,
    col_scale: Tensor | None = None,
    addend: Tensor | None = None,
) -> Tensor:
    """addend + row_scale * A (col_scale * x): [C, F] -> [R, F]. Differentiable in x and addend.

    `addend` [R, F] is changed in place and returned: an inner sum becomes the whole sum without another pass.
    """
    result: Tensor = _SumBlock.apply(x, addend, block, row_scale, col_scale)
    return result


class _Dropout(torch.autograd.Function):
    """mask * x / keep; backward is the same with grad for x. Only the node ids are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Kernels, mask: Mask) -> Tensor:
        ctx.kernels, ctx.mask = kernels, mask
        return kernels.dropout(x, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.kernels.dropout(grad.contiguous(), ctx.mask), None, None


def dropout(kernels: Kernels, x: Tensor, mask: Mask) -> Tensor:
    """Dropout of x [N, F], the mask a pure function of (key, node id, column); x itself when p is 0."""
    if mask.p == 0.0:
        return x
    result: Tensor = _Dropout.apply(x, kernels, mask)
    return result


class _ReluDropout(torch.autograd.Function):
    """mask * max(x, 0) / keep. Keeps its result, as the next product does; it is 0 where grad must be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Kernels, mask: Mask) -> Tensor:
        result = kernels.relu_dropout(x, mask)
        ctx.save_for_backward(result)
        ctx.kernels, ctx.p = kernels, mask.p
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (result,) = ctx.saved_tensors
        return ctx.kernels.relu_dropout_backward(grad.contiguous(), result, ctx.p), None, None


def relu_dropout(kernels: Kernels, x: Tensor, mask: Mask) -> Tensor:
    """dropout(relu(x)) of x [N, F] in one pass; p may be 0."""
    result: Tensor = _ReluDropout.apply(x, kernels, mask)
    return result


class _NormReluDropout(torch.autograd.Function):
    """Layer norm, ReLU and dropout.

    | tensor       | shape  | kept | note                                                             |
    |--------------|--------|------|------------------------------------------------------------------|
    | x            | [N, F] | yes  | the one matrix kept: normalised rows and mask are computed again |
    | mean, rstd   | [N]    | yes  |                                                                  |
    | weight, bias | [F]    | yes  | gradients are sums over rows in a fixed order                    |
    | result       | [N, F] | no   | the next product keeps it for itself                             |
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        kernels: Kernels,
        mask: Mask,
    ) -> Tensor:
        result, moments = kernels.norm_relu_dropout(x, LayerNorm(weight, bias, eps), mask)
        ctx.save_for_backward(x, weight, bias, *moments)
        ctx.kernels, ctx.eps, ctx.mask = kernels, eps, mask
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, *moments = ctx.saved_tensors
        grads = ctx.kernels.norm_relu_dropout_backward(
            grad.contiguous(), x, Moments(*moments), LayerNorm(weight, bias, ctx.eps), ctx.mask
        )
        return *grads, None, None, None


def norm_relu_dropout(kernels: Kernels, x: Tensor, norm: LayerNorm, mask: Mask) -> Tensor:
    """dropout(relu(layer_norm(x))) of x [N, F] in one pass; p may be 0."""
    result: Tensor = _NormReluDropout.apply(x, norm.weight, norm.bias, norm.eps, kernels, mask)
    return result


class _AttentionSum(torch.autograd.Function):
    """Sums weighted by attention; the caller adds inner and halo block and divides by the weight.

    | tensor    | shape     | forward                                       | backward                    |
    |-----------|-----------|-----------------------------------------------|-----------------------------|
    | score_dst | [R, h]    | w = exp(leaky(score_dst + score_src) - shift) | sum over c of t             |
    | score_src | [C, h]    |                                               | sum over r of t             |
    | x         | [C, h, d] |                                               | sum over r of w gs          |
    | shift     | [R, h]    | constant; cancels in sum / weight             | none                        |
    | sum       | [R, h, d] | sum over c of w x                             | gs                          |
    | weight    | [R, h]    | sum over c of w                               | gw                          |

    where t = w leaky'(score) (gw + <gs, x>).
    Pitfall: weights are computed again, [E, h] is never kept.
    """

    @staticmethod
    def forward(
        ctx: Any, score_dst: Tensor, score_src: Tensor, x: Tensor, block: Block, shift: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(score_dst, score_src, x, shift)
        ctx.block, ctx.slope = block, slope
        return block.kernels.attention_sum(block.csr, score_dst, score_src, x, shift, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor, grad_weight: Tensor) -> tuple[Tensor | None, ...]:
        score_dst, score_src, x, shift = ctx.saved_tensors
        block: Block = ctx.block
        grads = block.kernels.attention_sum_backward(
            block.csr,
            block.transposed,
            score_dst,
            score_src,
            x,
            shift,
            ctx.slope,
            grad_sum.contiguous(),
            grad_weight.contiguous(),
        )
        return *grads, None, None, None


def attention_sum(
    block: Block, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Weighted sum [R, h, d] and sum of weights [R, h] over the block's rows; GAT's softmax in two parts.

    The weight of arc (r, c) is exp(leaky_relu(score_dst[r] + score_src[c], slope) - shift[r]) (Velickovic et
    al., "Graph attention networks", ICLR 2018, equation 3, before the division). `shift` [R, h] is a constant
    that keeps the exponent at or below 0: leaky_relu(score_dst + the largest score_src that the row sees).
    """
    result: tuple[Tensor, Tensor] = _AttentionSum.apply(score_dst, score_src, x, block, shift, slope)
    return result
