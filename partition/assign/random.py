"""Balanced random parts: the control that every other method is held against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def balanced_random(num_nodes: int, parts: int, seed: int) -> npt.NDArray[np.int32]:
    """Part of every node, int32 [N]; part sizes differ by at most 1."""
    part_of = (np.arange(num_nodes) % parts).astype(np.int32)
    np.random.default_rng([seed, 0xA551]).shuffle(part_of)
    return part_of
