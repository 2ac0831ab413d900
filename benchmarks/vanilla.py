"""Vanilla partition-parallel training, made from our own pieces: every row, fp32, nothing overlapped.

It is what BNS-GCN and PipeGCN compare against, and what one would have without them. Bytes, kernels and
weights are those of our exact training; but a layer's rows are waited for as soon as they are sent, before
anything else is computed, forward and backward. Of two kinds:

    both-ways   the two directions of a pair are under way at once, as in our own exchange
    one-way     one worker sends at a time, to all others, and the next when all have received: a loop over
                the ranks, and what gloo's all_to_all makes of a pair's one connection
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch.distributed as torch_dist
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.exchange.draws import LayerDraw
from bnsgcn.exchange.lane import Lane
from bnsgcn.pending import Pending, posted

KINDS = ("both-ways", "one-way")


class VanillaLane(Lane):
    """A lane of which nothing is under way once a post has returned."""

    def post_features(self, h: Tensor, scale: Tensor | None) -> None:
        """As `Lane.post_features`, waited for."""
        super().post_features(h, scale)
        with self._spans.measure("halo_wait"):
            self._features.drain()

    def post_gradients(self, gradient: Tensor, draw: LayerDraw) -> None:
        """As `Lane.post_gradients`, waited for."""
        super().post_gradients(gradient, draw)
        with self._spans.measure("halo_wait"):
            self._gradients.drain()


def in_turns(
    world: World,
    received: Tensor,
    sent: Tensor,
    receives: Sequence[tuple[int, int, int]],
    sends: Sequence[tuple[int, int, int]],
    tag: int,
) -> Pending:
    """In place of `World._point_to_point`: one rank after the other sends, all others receive."""
    for sender in range(world.size):
        mine = sender == world.rank
        transfer, rows = (torch_dist.isend, sent) if mine else (torch_dist.irecv, received)
        stretches = sends if mine else [each for each in receives if each[0] == sender]
        works: list[Any] = [
            posted(transfer, rows[first:end], peer, tag=tag) for peer, first, end in stretches if first < end
        ]
        Pending(works, (rows,), world, [peer for peer, first, end in stretches if first < end]).wait()
    return Pending()


@contextlib.contextmanager
def vanilla(kind: str) -> Iterator[None]:
    """Trainers that are made and used inside train the vanilla way, of `KINDS`; as usual where empty."""
    with contextlib.ExitStack() as changed:
        if kind:
            changed.enter_context(mock.patch("bnsgcn.train.trainer.Lane", VanillaLane))
        if kind == "one-way":
            changed.enter_context(mock.patch.object(World, "_point_to_point", in_turns))
        yield
