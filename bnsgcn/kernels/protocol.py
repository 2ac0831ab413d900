"""What every kernel backend offers: plain functions of tensors, no autograd and no state that a caller sees.

autograd.py builds differentiable operations from these. Every backend gives the same random bits
(random_bits.py) and, up to rounding, the same sums; a backend's result is bitwise the same every time. NaN
stays NaN in all that is computed from it; what a mask drops is 0, whatever it was.

Shapes:
    R rows of a block   C its columns   N rows   F features   S rows listed by an index
    h heads   d features of a head
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

from torch import Tensor

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.random_bits import Mask


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNorm:
    """What a layer norm scales and shifts the normalised rows by."""

    weight: Tensor | None = None
    """[F]; None: ones."""
    bias: Tensor | None = None
    """[F]; None: zeros."""
    eps: float = 1e-5
    """Added to a row's variance."""


class Moments(NamedTuple):
    """Each row's mean and 1 / sqrt(variance + eps): [N]."""

    mean: Tensor
    rstd: Tensor


class Kernels(Protocol):
    """One instance is made by `select` and passed down."""

    name: str

    def sum_rows(
        self,
        csr: Csr,
        x: Tensor,
        *,
        row_scale: Tensor | None = None,
        col_scale: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """out[r] (+)= row_scale[r] * sum over row r's columns c of weight[r, c] * col_scale[c] * x[c].

        [C, F] -> [R, F]. With `out` given the sum is added to it. Scales have the dtype of `x`; the weights
        are those of the block, 1 where it has none.
        """
        ...

    def gather_rows(
        self, x: Tensor, index: Tensor, *, scale: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """out[s] = scale[s] * x[index[s]]: [S, F]. `out` may have another float dtype."""
        ...

    def scatter_add_rows(
        self, out: Tensor, index: Tensor, rows: Tensor, *, scale: Tensor | None = None
    ) -> None:
        """out[index[s]] += scale[s] * rows[s], in the order of s; `index` may repeat.

        `rows` may have another dtype than `out`: any float, or int8 with the scales that `pack_int8` gave.
        """
        ...

    def pack_int8(self, x: Tensor, index: Tensor | None, key: int, top: int = 127) -> tuple[Tensor, Tensor]:
        """Rows x[index] (all when None) as int8 [S, F] and a float32 scale [S]; rounds at random, unbiased.

        The bits are those of (key, place s in the result, column); a row's largest magnitude becomes `top`.
        Rows are rounded from float32 whatever their dtype. The scale of a row that is not finite is NaN.
        """
        ...

    def dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """x * mask.scale where the mask keeps x, else 0; its own backward. `out` may be x."""
        ...

    def relu_dropout(self, x: Tensor, mask: Mask, *, out: Tensor | None = None) -> Tensor:
        """dropout(max(x, 0)); `out` may be x."""
        ...

    def relu_dropout_backward(
        self, grad: Tensor, output: Tensor, p: float, *, out: Tensor | None = None
    ) -> Tensor:
        """Gradient of x: 0 where `output` (of relu_dropout) is at most 0, else grad / keep.

        `out` may be grad.
        """
        ...

    def norm_relu_dropout(
        self, x: Tensor, norm: LayerNorm, mask: Mask, *, out: Tensor | None = None
    ) -> tuple[Tensor, Moments]:
        """dropout(relu(layer_norm(x))), and the moments of x. `out` may be x."""
        ...

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
        """Gradients of x, weight and bias; the mask is drawn again. `out` may be grad or x."""
        ...

    def row_max(self, csr: Csr, x: Tensor) -> Tensor:
        """Largest x[c] over each row's columns, NaN if one is, -inf for an empty row: [C, h] -> [R, h]."""
        ...

    def attention_sum(
        self, csr: Csr, score_dst: Tensor, score_src: Tensor, x: Tensor, shift: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        """Weighted sum of x [C, h, d] and sum of weights over each row: [R, h, d], [R, h].

        The weight of arc (r, c) is exp(leaky_relu(score_dst[r] + score_src[c]) - shift[r]), per head.
        """
        ...

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
        """Gradients of score_dst [R, h], score_src [C, h] and x [C, h, d]; weights are computed again."""
        ...

    def transpose(self, csr: Csr) -> Csr:
        """See Csr.transpose."""
        ...

    def select_rows(self, csr: Csr, rows: Tensor) -> Csr:
        """See Csr.select_rows; `rows` are ids."""
        ...

    def compact(self, csr: Csr, column_map: Tensor, num_cols: int) -> Csr:
        """See Csr.compact."""
        ...
