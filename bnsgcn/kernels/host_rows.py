"""Input rows that stay in pinned host memory and cross to the device piece by piece, as they are multiplied.

The next piece is copied while one is multiplied, so that a product takes as long as the slower of the two. It
happens in forward and, for the gradient of the weight, again in backward; there is no gradient of the rows,
which are input. On the device are two pieces, whatever the size of the graph.

    N rows   F columns   O outputs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from bnsgcn.device.streams import Streams
from bnsgcn.kernels.half_rows import wide
from bnsgcn.kernels.protocol import Kernels
from bnsgcn.kernels.random_bits import Mask

PIECE_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, eq=False)
class HostRows:
    """Rows [N, F].

    rows: in memory of `Streams.pinned`.   device: where they are multiplied.   mask: dropout on the way.
    """

    rows: Tensor
    device: torch.device
    streams: Streams
    kernels: Kernels
    mask: Mask | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return self.rows.shape[0], self.rows.shape[1]

    def dropped(self, mask: Mask) -> HostRows:
        """Dropout of the rows on their way to a product."""
        return dataclasses.replace(self, mask=mask)

    def times(self, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """x W^T for W [O, F]: [N, O]; added to `into` where it is given."""
        factor = weight.t()
        out = weight.new_empty(self.shape[0], weight.shape[0]) if into is None else into
        for some, piece in self._pieces():
            if into is None:
                torch.mm(piece, factor, out=out[some])
            else:
                out[some].addmm_(piece, factor)
        return out

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """g^T x for g [N, O]: [O, F]."""
        total = gradient.new_zeros(gradient.shape[1], self.shape[1])
        for some, piece in self._pieces():
            total.addmm_(gradient[some].t(), piece)
        return total

    def dense_columns(self, first: int, last: int) -> Tensor:
        """Columns first, ..., last - 1 of all rows, on the device: [N, last - first]."""
        return self.rows[:, first:last].to(self.device)

    def _pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Some rows after the other, in two rooms by turns; a piece is there until the next is asked for."""
        (total, width), streams = self.shape, self.streams
        step = max(1, PIECE_BYTES // max(1, width * self.rows.element_size()))
        stretches = [slice(first, min(first + step, total)) for first in range(0, total, step)]
        room = torch.empty(2, min(step, total), width, dtype=self.rows.dtype, device=self.device)
        rooms = list(room[: len(stretches)])
        free = [streams.mark() for _ in rooms]
        copied = []

        def fetch(number: int) -> None:
            some = stretches[number]
            with streams.arriving(free[number % 2]):
                streams.copy(rooms[number % 2][: some.stop - some.start], self.rows[some])
                copied.append(streams.mark())

        for number, some in enumerate(stretches):
            for wanted in range(len(copied), min(number + 2, len(stretches))):
                fetch(wanted)
            copied[number].hold()
            piece = rooms[number % 2][: some.stop - some.start]
            if self.mask is not None:
                self.kernels.dropout(piece, self.mask.rows(some), out=piece)
            yield some, piece.to(wide(piece.dtype))
            free[number % 2] = streams.mark()
