"""What layer 0 may read in place of a plain matrix: rows that it multiplies as they are.

They have no gradient, and are multiplied before anything is summed or sent, however wide the result is.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from torch import Tensor

from bnsgcn.kernels.random_bits import Mask


class InputRows(Protocol):
    """Rows [N, F]: sparse (sparse_rows.py), or in host memory (host_rows.py)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        ...

    def dropped(self, mask: Mask) -> InputRows:
        """Dropout: what `Kernels.dropout` makes of the same rows."""
        ...

    def times(self, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """x W^T for W [O, F]: [N, O]; added to `into` where it is given."""
        ...

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """g^T x for g [N, O]: [O, F]."""
        ...


Input: TypeAlias = Tensor | InputRows
