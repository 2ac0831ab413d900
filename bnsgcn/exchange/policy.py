"""From options to an exchange: what is drawn, what is stale, what is smoothed, how rows travel.

The choices are orthogonal; any combination is a run. With all of them off the exchange is exact.
"""

from __future__ import annotations

import dataclasses

from bnsgcn.config import TrainConfig
from bnsgcn.exchange.draws import Sampling
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


def exact_policy(kernels: Kernels) -> Policy:
    """Every row, this epoch's, as computed."""
    wire = Wire("fp32", kernels)
    return Policy(feature_wire=wire, gradient_wire=wire)


def exchange_policy(config: TrainConfig, kernels: Kernels) -> Policy:
    """Draws, staleness, smoothing, caching and wire precision, as the options say."""
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
