"""From options to an exchange: what is drawn, what is stale, what is smoothed, how rows travel.

The choices are orthogonal; any combination is a run. With all of them off the exchange is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bnsgcn.config import TrainConfig, WireDtype
from bnsgcn.exchange.draws import Sampling
from bnsgcn.exchange.settings import Settings
from bnsgcn.exchange.wire import Wire
from bnsgcn.kernels import Kernels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """How the lanes of a run exchange; the defaults are exact. Fields as in `TrainConfig`.

    sampling: how rows are drawn, None = all of them.   feature_decay, gradient_decay: of moving averages, by
    epoch; 0 = none.
    """

    feature_wire: Wire
    gradient_wire: Wire
    sampling: Sampling | None = None
    pipeline: bool = False
    first_exact: bool = True
    feature_decay: float = 0.0
    gradient_decay: float = 0.0
    cache: bool = False
    settings: Settings | None = None
    """What holds in each epoch in place of rate, wire dtype and staleness, where these change."""
    wires: Mapping[WireDtype, Wire] = dataclasses.field(default_factory=dict)
    """What settings choose from."""

    def feature_wire_in(self, layer: int, epoch: int) -> Wire:
        """How a layer's rows travel in an epoch."""
        return self.feature_wire if self.settings is None else self.wires[self.settings.of(epoch).wire(layer)]

    def gradient_wire_in(self, layer: int, epoch: int) -> Wire:
        """How their gradients travel."""
        return self.gradient_wire if self.settings is None else self.feature_wire_in(layer, epoch)

    def is_stale(self, epoch: int) -> bool:
        """Whether rows and gradients of the epoch before are used in an epoch."""
        return self.pipeline if self.settings is None else self.settings.of(epoch).pipeline


def exact_policy(kernels: Kernels) -> Policy:
    """Every row, this epoch's, as computed."""
    wire = Wire("fp32", kernels)
    return Policy(feature_wire=wire, gradient_wire=wire)


def exchange_policy(config: TrainConfig, kernels: Kernels) -> Policy:
    """Draws, staleness, smoothing, caching and wire precision, as the options say."""
    if config.policy == "auto":
        return _chosen_policy(config, kernels)
    decay = 1 - 1 / config.smooth_window
    return Policy(
        feature_wire=Wire(config.wire_dtype, kernels),
        gradient_wire=Wire(config.gradient_wire_dtype or config.wire_dtype, kernels),
        sampling=_sampling(config),
        pipeline=config.pipeline,
        first_exact=config.first_epoch == "exact",
        feature_decay=decay if config.smooth_features else 0.0,
        gradient_decay=decay if config.smooth_gradients else 0.0,
        cache=config.halo_cache,
    )


CHOOSABLE: tuple[WireDtype, ...] = ("fp32", "bf16", "int8", "int4")
"""Number formats that `--policy auto` chooses from."""


def _chosen_policy(config: TrainConfig, kernels: Kernels) -> Policy:
    """Exact until somebody says otherwise (auto/controller.py)."""
    wires = {dtype: Wire(dtype, kernels) for dtype in CHOOSABLE}
    return Policy(
        feature_wire=wires["fp32"],
        gradient_wire=wires["fp32"],
        sampling=Sampling(
            rate=1.0,
            seed=config.seed,
            per_layer=True,
            scaled=config.model != "gat",
            importance=config.model,
        ),
        settings=Settings(),
        wires=wires,
    )


def _sampling(config: TrainConfig) -> Sampling | None:
    """A cache fills the slots that were not drawn, and attention is a mean over those that were: no scale."""
    if config.sampling_rate == 1.0:
        return None
    return Sampling(
        rate=config.sampling_rate,
        seed=config.seed,
        per_layer=config.draw_per_layer,
        scaled=config.model != "gat" and not config.halo_cache,
        full_first_epoch=config.halo_cache and config.first_epoch == "exact",
        importance=config.model if config.sampler == "importance" else None,
    )
