"""Features brought to one scale: see scaling.py for how, and for what is remembered of it.

Shapes:
    N nodes   F features
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import BoolArray
from partition.errors import UserError
from partition.features import Features, rows_at_once
from partition.room import check_room
from partition.scaling import Scaling, ScalingKind


def scaled_features(name: str, features: Features, scaling: Scaling) -> Features:
    """Scaled `features` [N, F]: standardised ones dense, rows as dense or sparse as they were."""
    if scaling.kind == "row":
        return _rows_scaled(features)
    check_room(f"{name}: standardised features", 4 * int(np.prod(features.shape)), "use features=row")
    scaled = np.empty(features.shape, np.float32)
    mean, deviation = np.array(scaling.mean), np.array(scaling.deviation)
    for start, block in _blocks(features):
        scaled[start : start + block.shape[0]] = (block - mean) / deviation
    return scaled


def scaling_of(kind: ScalingKind, name: str, features: Features, train: BoolArray, stored: str) -> Scaling:
    """The scaling of `features` by the rows `train` bool [N].

    Raises:
        UserError: they are to be stored sparse, and would all be set.
    """
    if kind == "row":
        return Scaling(kind="row")
    if stored == "sparse":
        raise UserError(
            f"{name}: standardising sets all features, features=sparse stores them one by one; "
            "leave one of the two out, or use features=row, which keeps zeros"
        )
    chosen = features[np.flatnonzero(train)]
    mean = sum((block.sum(0) for _, block in _blocks(chosen)), np.zeros(features.shape[1])) / chosen.shape[0]
    squares = sum((((block - mean) ** 2).sum(0) for _, block in _blocks(chosen)), np.zeros(mean.size))
    deviation = np.sqrt(squares / chosen.shape[0])
    # Rounding leaves a trace of deviation in a constant column.
    deviation = np.where(deviation > 1e-7 * np.abs(mean), deviation, 1.0)
    return Scaling(kind=kind, mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()))


def _rows_scaled(features: Features) -> Features:
    if sp.issparse(features):
        scaled = features.copy()
        sums = np.asarray(abs(scaled).sum(1), np.float64).ravel()
        scaled.data /= np.repeat(np.where(sums > 0, sums, 1.0), np.diff(scaled.indptr)).astype(np.float32)
        return scaled
    made = np.empty(features.shape, np.float32)
    for start, block in _blocks(features):
        sums = np.abs(block).sum(1, keepdims=True)
        made[start : start + block.shape[0]] = block / np.where(sums > 0, sums, 1.0)
    return made


def _blocks(features: Features) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """First row and dense float64 rows, some at a time."""
    step = rows_at_once(features.shape[1])
    for start in range(0, features.shape[0], step):
        block = features[start : start + step]
        dense: npt.NDArray[np.float64] = (block.toarray() if sp.issparse(block) else block).astype(np.float64)
        yield start, dense
