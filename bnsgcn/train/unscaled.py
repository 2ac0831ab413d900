"""Whether input features look as if nobody had scaled them, and what to do then.

F features
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from partition.store import CsrFeatures, Part

ENTRIES, LEAST, MOST = 1 << 21, 64, 2_048
"""Of the sample: entries, and rows at least and at most."""
SPREAD = 10.0
"""Between the deviations of large and small columns (the ninth and first tenth of them)."""
OFFSET = 0.2
"""Share that the columns' means may have in the mean square of the entries."""


def unscaled_notes(part: Part) -> list[str]:
    """A line for the user where the columns of a sample of the part's rows differ much in scale."""
    if part.manifest.feature_scaling or part.num_inner < 2:
        return []
    rows = _sampled(part).astype(np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    varying = deviation[deviation > 0]
    if varying.size < 2:
        return []
    low, high = np.quantile(varying, (0.1, 0.9))
    offset = float((mean**2).sum() / (rows**2).sum() * rows.shape[0])
    if high < SPREAD * low and offset < OFFSET:
        return []
    what = (
        f"their columns' deviations go from {low:.2g} to {high:.2g}"
        if high >= SPREAD * low
        else f"means make up {offset:.0%} of their mean square"
    )
    return [
        f"features look unscaled: {what}; they may be learnt sooner with features=standardise, counts and "
        f"sparse ones with features=row, in the source"
    ]


def _sampled(part: Part) -> npt.NDArray[np.float32]:
    """Some rows of the part, dense, evenly spread."""
    features, columns = part.features, part.manifest.num_features
    count = min(MOST, max(LEAST, ENTRIES // columns))
    chosen = np.unique(np.linspace(0, part.num_inner - 1, count).astype(np.int64))
    if not isinstance(features, CsrFeatures):
        return np.asarray(features[chosen])
    rows = np.zeros((chosen.size, columns), np.float32)
    for place, row in enumerate(chosen):
        entries = slice(features.splits[row], features.splits[row + 1])
        rows[place, features.columns[entries]] = features.values[entries]
    return rows
