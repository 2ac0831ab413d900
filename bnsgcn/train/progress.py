"""Where a run is: what decides when it ends and which weights were the best."""

from __future__ import annotations

import dataclasses
import math

from bnsgcn.config import TrainConfig
from bnsgcn.train.evaluate import Scores


@dataclasses.dataclass
class Progress:
    """Counters and scores of a run; the same on every rank and in every checkpoint."""

    epoch: int = 0
    """Epochs done."""
    best_val: float = -math.inf
    best_test: float = math.nan
    best_epoch: int = -1
    worse_evaluations: int = 0
    """Evaluations since the best one."""
    loss: float = math.nan
    rate_drops: int = 0
    """How often a plateau has lowered the learning rate."""

    def note(self, scores: Scores, config: TrainConfig) -> bool:
        """Take an evaluation after the last epoch into account; whether it is the best so far."""
        better = scores.val > self.best_val or self.best_epoch < 0
        if better:
            self.best_val, self.best_test = scores.val, scores.test
            self.best_epoch, self.worse_evaluations = self.epoch - 1, 0
        else:
            self.worse_evaluations += 1
            waited = self.worse_evaluations % config.lr_patience == 0
            self.rate_drops += config.lr_schedule == "plateau" and waited
        return better

    def is_over(self, config: TrainConfig) -> bool:
        """Whether there is nothing left to train: all epochs are done, or patience has run out."""
        return self.epoch >= config.epochs or 0 < config.patience <= self.worse_evaluations

    def take_over(self, values: dict[str, float]) -> None:
        """Go on from the `dataclasses.asdict` of another one."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, values.get(field.name, field.default))
