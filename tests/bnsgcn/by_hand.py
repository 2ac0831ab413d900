"""What an exchange must carry, worked out from the part's lists and the definition of a draw alone.

H halo slots of a part   S boundary entries   P parts
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bnsgcn.config import TrainConfig
from bnsgcn.exchange.sampling import EVERY_LAYER, draw_uniform
from partition.store import Part


def original_ids(folder: Path) -> np.ndarray:
    """Original node of every global id."""
    return np.concatenate([np.load(path) for path in sorted(folder.glob("part_*/node_ids.npy"))])


def drawn_slots(part: Part, config: TrainConfig, epoch: int, layer: int) -> np.ndarray:
    """The part's halo slots drawn in an epoch (uniform draws), ascending."""
    if full(config, epoch):
        return np.arange(part.num_halo)
    return _drawn(part.halo_splits, config, epoch, layer, reader=part.index)


def drawn_entries(part: Part, config: TrainConfig, epoch: int, layer: int) -> np.ndarray:
    """The part's boundary entries drawn in an epoch, ascending."""
    if full(config, epoch):
        return np.arange(part.boundary_rows.size)
    return _drawn(part.boundary_splits, config, epoch, layer, sender=part.index)


def full(config: TrainConfig, epoch: int) -> bool:
    """Whether everything travels: the first exact epoch of a cache fills it."""
    return config.halo_cache and config.first_epoch == "exact" and epoch == 0


def _drawn(splits: np.ndarray, config: TrainConfig, epoch: int, layer: int, **mine: int) -> np.ndarray:
    chosen = []
    for peer in range(splits.size - 1):
        drawn = draw_uniform(
            seed=config.seed,
            epoch=epoch,
            sender=mine.get("sender", peer),
            reader=mine.get("reader", peer),
            rows=int(splits[peer + 1] - splits[peer]),
            rate=config.sampling_rate,
            layer=layer if config.draw_per_layer else EVERY_LAYER,
        )
        chosen.append(splits[peer] + drawn.chosen)
    return np.concatenate(chosen)


def reader_of(part: Part) -> np.ndarray:
    """The reader of every boundary entry, [S]."""
    return np.repeat(np.arange(part.boundary_splits.size - 1), np.diff(part.boundary_splits))


class AverageByHand:
    """Moving averages of single slots, each from the list of all its values so far and their epochs."""

    def __init__(self, slots: int, decay: float) -> None:
        self._seen: list[list[tuple[int, float]]] = [[] for _ in range(slots)]
        self._decay = decay

    def update(self, slots: np.ndarray, values: np.ndarray, epoch: int) -> np.ndarray:
        """The smoothed values [R] of `slots` [R] after seeing `values` [R]; decay 0 gives them back."""
        for slot, value in zip(slots, values, strict=True):
            self._seen[slot].append((epoch, float(value)))
        return self.read(slots)

    def read(self, slots: np.ndarray) -> np.ndarray:
        """The smoothed values [R] of `slots` [R] as they are."""
        return np.array([self._mean(self._seen[slot]) for slot in slots])

    def _mean(self, seen: list[tuple[int, float]]) -> float:
        weights = [self._decay ** (seen[-1][0] - epoch) for epoch, _ in seen]
        return sum(weight * value for weight, (_, value) in zip(weights, seen, strict=True)) / sum(weights)
