"""Differentiable operations over a backend's plain kernels. Gradients of gradients are not provided.

Shapes:
    R rows of a block   C its columns   N rows   F features   h heads   d features of a head
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.protocol import Kernels


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A sparse block, its transpose (what a backward sums over) and the kernels that sum."""

    csr: Csr
    transposed: Csr
    kernels: Kernels

    def __post_init__(self) -> None:
        assert (self.csr.num_rows, self.csr.num_cols) == (self.transposed.num_cols, self.transposed.num_rows)
        assert self.csr.num_arcs == self.transposed.num_arcs

    @classmethod
    def of(cls, csr: Csr, kernels: Kernels) -> Block:
        """The block with its transpose, made here."""
        return cls(csr, kernels.transpose(csr), kernels)


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
    def forward(ctx: Any, x: Tensor, kernels: Kernels, node_ids: Tensor, key: int, p: float) -> Tensor:
        ctx.drawn = (kernels, node_ids, key, p)
        return kernels.dropout(x, node_ids, key, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        kernels, node_ids, key, p = ctx.drawn
        return kernels.dropout(grad.contiguous(), node_ids, key, p), None, None, None, None


def dropout(kernels: Kernels, x: Tensor, node_ids: Tensor, key: int, p: float) -> Tensor:
    """Dropout of x [N, F], its mask a pure function of (key, node_ids[n], column); x itself when p is 0."""
    if p == 0.0:
        return x
    result: Tensor = _Dropout.apply(x, kernels, node_ids, key, p)
    return result


class _ReluDropout(torch.autograd.Function):
    """mask * max(x, 0) / keep. Keeps its result, as the next product does; it is 0 where grad must be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Kernels, node_ids: Tensor, key: int, p: float) -> Tensor:
        result = kernels.relu_dropout(x, node_ids, key, p)
        ctx.save_for_backward(result)
        ctx.drawn = (kernels, p)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        kernels, p = ctx.drawn
        (result,) = ctx.saved_tensors
        return kernels.relu_dropout_backward(grad.contiguous(), result, p), None, None, None, None


def relu_dropout(kernels: Kernels, x: Tensor, node_ids: Tensor, key: int, p: float) -> Tensor:
    """dropout(relu(x)) of x [N, F] in one pass; p may be 0."""
    result: Tensor = _ReluDropout.apply(x, kernels, node_ids, key, p)
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
        kernels: Kernels,
        eps: float,
        node_ids: Tensor,
        key: int,
        p: float,
        relu: bool,
    ) -> Tensor:
        result, mean, rstd = kernels.norm_relu_dropout(x, weight, bias, eps, node_ids, key, p, relu=relu)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.drawn = (kernels, node_ids, key, p, relu)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        kernels, node_ids, key, p, relu = ctx.drawn
        grads = kernels.norm_relu_dropout_backward(
            grad.contiguous(), x, mean, rstd, weight, bias, node_ids, key, p, relu=relu
        )
        return *grads, None, None, None, None, None, None


def norm_relu_dropout(
    kernels: Kernels,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    node_ids: Tensor,
    key: int,
    p: float,
    *,
    relu: bool = True,
) -> Tensor:
    """dropout(relu(layer_norm(x, weight, bias, eps))) of x [N, F] in one pass; p may be 0, relu off."""
    result: Tensor = _NormReluDropout.apply(x, weight, bias, kernels, eps, node_ids, key, p, relu)
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


def row_max(block: Block, score_src: Tensor) -> Tensor:
    """Largest score_src[c] that each row sees, -inf for an empty row: [C, h] -> [R, h]; no gradient."""
    return block.kernels.row_max(block.csr, score_src.detach())
