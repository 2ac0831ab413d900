"""A lane that torch's profiler sees: where messages leave and are taken, for arrows between the two."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.profiler import record_function

from bnsgcn.exchange.draws import LayerDraw
from bnsgcn.exchange.lane import Arrival, Lane
from bnsgcn.record.trace import Passage


class ProfiledLane(Lane):
    """What a lane does, with a mark at each of the four places where it touches a message."""

    def post_features(self, h: Tensor, scale: Tensor | None) -> None:
        """As `Lane.post_features`."""
        with self._marked("features", self._epoch, to=self._full.send_splits):
            super().post_features(h, scale)

    def take_features(self, features: int, dtype: torch.dtype) -> tuple[Arrival, LayerDraw]:
        """As `Lane.take_features`."""
        with self._marked("features", self._due):
            return super().take_features(features, dtype)

    def post_gradients(self, gradient: Tensor, draw: LayerDraw) -> None:
        """As `Lane.post_gradients`."""
        with self._marked("gradients", self._epoch, to=self._full.recv_splits):
            super().post_gradients(gradient, draw)

    def take_gradients(self) -> tuple[Tensor, LayerDraw] | None:
        """As `Lane.take_gradients`."""
        with self._marked("gradients", self._due):
            return super().take_gradients()

    @property
    def _epoch(self) -> int:
        return self._clock.epoch

    @property
    def _due(self) -> int:
        """The epoch in which what is taken now was posted."""
        return max(self._first, self._epoch - int(self._policy.is_stale(self._epoch)))

    def _marked(self, rows: str, posted: int, to: tuple[int, ...] | None = None) -> record_function:
        """`to`: boundary rows for each rank, where it is a post."""
        peers = None if to is None else tuple(rank for rank, count in enumerate(to) if count)
        stale = self._policy.is_stale(self._epoch)
        mark = Passage(layer=self._layer, rows=rows, posted=posted, stale=stale, peers=peers)
        return record_function(mark.to_text())
