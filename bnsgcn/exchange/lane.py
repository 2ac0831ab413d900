"""One layer's traffic: what leaves, what waits, what arrives, in both directions.

What a lane does with staleness, sampling, smoothing, caching and wire precision is its policy; the model sees
none of it. All ranks call in the same order, with zero rows too.

    C source rows   S rows sent   R rows received   H halo slots   D destination rows   F features
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.exchange.clock import Clock
from bnsgcn.exchange.draws import DrawSource, LayerDraw
from bnsgcn.exchange.gauge import Gauge, some_of
from bnsgcn.exchange.mailbox import Flight, Mailbox, Smoother
from bnsgcn.exchange.policy import Policy
from bnsgcn.exchange.probe import Probe
from bnsgcn.kernels import Block, Kernels, random_bits
from bnsgcn.kernels.half_rows import wide
from bnsgcn.local.boundary import as_index
from bnsgcn.record.sent_bytes import SentBytes
from bnsgcn.record.spans import Spans


@dataclasses.dataclass(frozen=True, eq=False)
class Arrival:
    """Halo rows [R, F] of one layer with the block [D x R] and the scale [R] (None = 1) that they go with."""

    rows: Tensor
    block: Block
    scale: Tensor | None


class Lane:
    """One layer's traffic in both directions, in the epoch that the clock shows."""

    def __init__(
        self,
        layer: int,
        *,
        world: World,
        kernels: Kernels,
        clock: Clock,
        draws: DrawSource,
        policy: Policy,
        spans: Spans,
        sent: SentBytes,
    ) -> None:
        self._layer, self._world, self._kernels, self._clock = layer, world, kernels, clock
        self._draws, self._policy, self._spans, self._sent = draws, policy, spans, sent.of_layer(layer)
        self._full = draws.full(layer)
        boundary, slots = self._full.send_rows.numel(), self._full.recv_slots.numel()
        stale = {"stale": self._policy.is_stale(0), "first_exact": policy.first_exact}
        self._features = Mailbox(f"layer {layer} features", **stale)
        self._gradients = Mailbox(f"layer {layer} gradients", **stale)
        self._feature_smoother = Smoother(slots, policy.feature_decay) if policy.feature_decay else None
        self._gradient_smoother = Smoother(boundary, policy.gradient_decay) if policy.gradient_decay else None
        self._cached: Tensor | None = None
        self._origin = torch.full((slots,), -1, dtype=torch.int64, device=world.device)
        self._asked = False
        self._probe: Probe | None = None
        self._gauge: Gauge | None = None
        self._remembering, self._remembered = False, torch.empty(0)
        self._first = 0

    def prepare(self, epoch: int) -> None:
        """Make the draw of a later epoch, on the host, while the device computes."""
        with self._spans.measure("draw"):
            self._draws.draw(self._layer, epoch)

    def post_features(self, h: Tensor, scale: Tensor | None) -> None:
        """Boundary rows of h [C, F], times `scale` [C], leave under this epoch's draw."""
        epoch, dtype, columns = self._clock.epoch, h.dtype, h.shape[1]
        wire = self._policy.feature_wire_in(self._layer, epoch)
        with self._spans.measure("draw"):
            draw = self._draws.draw(self._layer, epoch)
        if self._asked:
            self._probe, self._asked = Probe(epoch, self._exact_rows(h, scale)), False
        if self._gauge is not None or self._remembering:
            self._look_at_rows(h, scale)
        received = wire.room(sum(draw.recv_splits), columns, h)
        with self._world.leaving(h, scale):
            key = self._key(random_bits.Stream.FEATURE_ROUNDING)
            if scale is None:
                sent = wire.pack(h, draw.send_rows, key)
            else:
                rows = self._kernels.gather_rows(h, draw.send_rows, scale=scale[draw.send_rows])
                sent = wire.pack(rows, None, key)
            pending = self._world.all_to_all(received, sent, draw.recv_splits, draw.send_splits)
        self._sent.features += sent.numel() * sent.element_size()

        def arrive(packed: Tensor) -> Tensor:
            return self._arrive_features(wire.unpack(packed, dtype, columns), draw, epoch)

        self._features.post(epoch, Flight(draw, received, pending, arrive))

    def _arrive_features(self, rows: Tensor, draw: LayerDraw, epoch: int) -> Tensor:
        if self._feature_smoother is not None:
            rows = self._feature_smoother.update(rows, draw.recv_slots, epoch)
        if self._policy.cache:
            if self._cached is None:
                self._cached = self._zeros(self._full, rows.shape[1], rows.dtype)
            self._cached[draw.recv_slots] = rows
        self._origin.index_fill_(0, draw.recv_slots, epoch)
        return rows

    def take_features(self, features: int, dtype: torch.dtype) -> tuple[Arrival, LayerDraw]:
        """The halo rows that this epoch computes with, and the draw that they came under."""
        epoch = self._clock.epoch
        with self._spans.measure("halo_wait"):
            flight = self._features.take(epoch)
            rows = None if flight is None else flight.rows()
        draw = self._draws.draw(self._layer, epoch) if flight is None else flight.draw
        used = draw
        if self._policy.cache:
            used, rows = self._full, self._cached
        if rows is None:
            rows = self._zeros(used, features, dtype)
        if self._probe is not None:
            self._probe.saw_rows(rows, used.recv_slots, self._origin[used.recv_slots])
        return Arrival(rows, used.block, None if used.scale is None else used.scale.to(wide(dtype))), draw

    def _zeros(self, draw: LayerDraw, features: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(sum(draw.recv_splits), features, dtype=dtype, device=self._world.device)

    # ---- telemetry ----

    def watch(self) -> None:
        """Have a probe watch the epoch that has begun."""
        self._asked = True

    @property
    def watched(self) -> bool:
        """Whether a probe watches."""
        return self._probe is not None

    def watch_sum(self, found: Tensor, exact: Callable[[Arrival], Tensor]) -> None:
        """Show the probe an aggregate beside what `exact` makes of every halo row of this epoch."""
        if self._gauge is not None:
            self._gauge.saw_sum(found)
        if self._probe is not None:
            with torch.no_grad():
                self._probe.saw_sum(found, exact(Arrival(self._probe.fresh, self._full.block, None)))

    def gauge(self) -> None:
        """Have rows and sums of the epoch that has begun measured."""
        self._gauge = Gauge()

    def remember(self) -> None:
        """Keep some rows of the epoch that has begun, for `gauge` in the next to tell how they change."""
        self._remembering = True

    def gauged(self) -> Gauge:
        """What was measured, which is done with."""
        found, self._gauge = self._gauge, None
        return found or Gauge()

    def _look_at_rows(self, h: Tensor, scale: Tensor | None) -> None:
        places, splits = some_of(self._full.send_splits)
        index = self._full.send_rows[as_index(places, self._world.device)]
        rows = self._kernels.gather_rows(h, index, scale=None if scale is None else scale[index])
        if self._gauge is not None:
            key = self._key(random_bits.Stream.FEATURE_ROUNDING)
            self._gauge.saw_rows(rows, splits, self._policy.wires, key)
            if self._remembered.shape == rows.shape:
                self._gauge.saw_change(rows, self._remembered)
        self._remembered = rows if self._remembering else torch.empty(0)
        self._remembering = False

    def telemetry(self) -> dict[str, float]:
        """What the probe saw, which is done with; empty when nobody asked for one. Collective."""
        probe, self._probe = self._probe, None
        return {} if probe is None else probe.results(self._world)

    def _exact_rows(self, h: Tensor, scale: Tensor | None) -> Tensor:
        """Every halo slot's value of this epoch [H, F], as computed."""
        full = self._full
        rows = self._kernels.gather_rows(
            h, full.send_rows, scale=None if scale is None else scale[full.send_rows]
        )
        return self._world.all_to_all_now(rows, full.send_splits, full.recv_splits)

    # ---- gradients ----

    def post_gradients(self, gradient: Tensor, draw: LayerDraw) -> None:
        """The gradient of the halo rows goes back to their owners, under the draw that they came with."""
        wire = self._policy.gradient_wire_in(self._layer, self._clock.epoch)
        index = draw.recv_slots if self._policy.cache else None
        received = wire.room(sum(draw.send_splits), gradient.shape[1], gradient)
        with self._world.leaving(gradient):
            key = self._key(random_bits.Stream.GRADIENT_ROUNDING)
            sent = wire.pack(gradient.contiguous(), index, key)
            pending = self._world.all_to_all(received, sent, draw.send_splits, draw.recv_splits)
        self._sent.gradients += sent.numel() * sent.element_size()
        epoch, dtype, columns = self._clock.epoch, gradient.dtype, gradient.shape[1]

        def arrive(packed: Tensor) -> Tensor:
            rows = wire.unpack(packed, dtype, columns)
            if self._gradient_smoother is not None:
                rows = self._gradient_smoother.update(rows, draw.send_entries, epoch)
            return rows

        self._gradients.post(epoch, Flight(draw, received, pending, arrive))

    def take_gradients(self) -> tuple[Tensor, LayerDraw] | None:
        """Gradient rows [S', F] due in this epoch with their draw; None = none in the first epoch."""
        with self._spans.measure("halo_wait"):
            flight = self._gradients.take(self._clock.epoch)
            return None if flight is None else (flight.rows(), flight.draw)

    def _key(self, stream: random_bits.Stream) -> int:
        who = self._layer << 20 | self._world.rank
        return random_bits.key(self._clock.seed, self._clock.epoch, who, stream)

    def add_rows(self, total: Tensor, index: Tensor, rows: Tensor, scale: Tensor | None) -> None:
        """total[index] += scale * rows, accumulating where `index` repeats."""
        self._kernels.scatter_add_rows(total, index, rows, scale=scale)

    # ---- between epochs ----

    def drain(self) -> None:
        """Wait for everything in flight; what is due later stays."""
        self._features.drain()
        self._gradients.drain()

    def turn(self, epoch: int) -> None:
        """Before `epoch`: start anew where it is to be stale and the one before was not, or the opposite."""
        if self._policy.is_stale(epoch) != self._policy.is_stale(epoch - 1):
            self.drain()
            self.begin(epoch)

    def begin(self, epoch: int) -> None:
        """Let `epoch` be the first one of this lane, which nothing was sent through yet."""
        self._first = epoch
        self._draws.begin(epoch)
        for mailbox in (self._features, self._gradients):
            mailbox.begin(epoch, stale=self._policy.is_stale(epoch))

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, drained."""
        smoothers = {"features": self._feature_smoother, "gradients": self._gradient_smoother}
        return {
            "features": self._features.state(),
            "gradients": self._gradients.state(),
            "smoothers": {name: smoother.state() for name, smoother in smoothers.items() if smoother},
            "cached": {} if self._cached is None else {"rows": self._cached},
            "origin": self._origin,
            "first": self._first,
        }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; checkpoints of earlier versions know of no first epoch but 0."""
        self.begin(state.get("first", 0))
        self._features.load(state["features"], lambda epoch: self._draws.draw(self._layer, epoch))
        self._gradients.load(state["gradients"], lambda epoch: self._draws.draw(self._layer, epoch))
        if self._feature_smoother is not None:
            self._feature_smoother.load(state["smoothers"]["features"])
        if self._gradient_smoother is not None:
            self._gradient_smoother.load(state["smoothers"]["gradients"])
        self._cached = state["cached"].get("rows")
        self._origin = state["origin"]
