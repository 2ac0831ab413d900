"""The learning rate's factor in every epoch, by the options: a warm-up, then constant, cosine or plateau.

The plateau alone looks back: how often it has lowered the rate is in the run's progress, so in checkpoints.
"""

from __future__ import annotations

import functools
import math

from bnsgcn.config import TrainConfig
from bnsgcn.train.optimizer import Schedule
from bnsgcn.train.progress import Progress

LOWERED = 0.5
"""What a plateau leaves of the rate."""


def schedule_of(config: TrainConfig, progress: Progress) -> Schedule | None:
    """The schedule that the options name; None where the rate stays what it is."""
    if config.lr_schedule == "constant" and config.warmup == 0:
        return None
    return functools.partial(_factor, config, progress)


def _factor(config: TrainConfig, progress: Progress, epoch: int) -> float:
    """Of `epoch`, counted from 0; above 0 always, so that every epoch moves the weights."""
    if epoch < config.warmup:
        return (epoch + 1) / (config.warmup + 1)
    if config.lr_schedule == "plateau":
        return LOWERED**progress.rate_drops
    if config.lr_schedule == "cosine":
        share = (epoch - config.warmup) / (config.epochs - config.warmup)
        return 0.5 * (1 + math.cos(math.pi * share))
    return 1.0
