"""Node features for graphs that come without, or instead of those they have.

features=degree        column 0 log(1 + degree), then a one-hot of floor(log2(1 + degree)), 32 columns in all
features=random:64     64 seeded standard normal columns, the same for the same node id and seed
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from partition.adjacency import IntArray
from partition.errors import UserError
from partition.graph import TRAIN, Graph

DEGREE_COLUMNS = 32
WAYS_OUT = "features=degree (made from node degrees) or features=random:64 (64 random columns)"


def made_features(text: str, recipe: str, degree: IntArray, seed: int = 0) -> npt.NDArray[np.float32]:
    """float32 [N, F] by the recipe after `features=`; ValueError names what there is."""
    name, _, width = recipe.partition(":")
    if name == "degree" and not width:
        return degree_features(degree)
    if name == "random" and width.isdecimal() and int(width) > 0:
        rng = np.random.default_rng([seed, 0xFEA7])
        return rng.standard_normal((degree.size, int(width)), dtype=np.float32)
    raise UserError(f"{text}: features={recipe} is unknown; use {WAYS_OUT}")


def degree_features(degree: IntArray) -> npt.NDArray[np.float32]:
    """float32 [N, 32] from degrees [N]."""
    features = np.zeros((degree.size, DEGREE_COLUMNS), np.float32)
    log2 = np.log2(1.0 + degree)
    features[:, 0] = log2 * np.log(2.0)
    bucket = np.minimum(log2.astype(np.int64), DEGREE_COLUMNS - 2)
    features[np.arange(degree.size), 1 + bucket] = 1.0
    return features


def standardised(graph: Graph) -> Graph:
    """`graph` with each feature at mean 0 and variance 1 over the training nodes (constant ones stay)."""
    dense = graph.features if isinstance(graph.features, np.ndarray) else graph.features.toarray()
    train = dense[graph.split == TRAIN].astype(np.float64)
    deviation = train.std(axis=0)
    scaled = (dense - train.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return dataclasses.replace(graph, features=scaled.astype(np.float32))
