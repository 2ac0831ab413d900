"""Lines of thousands of epochs in as many points as a screen has room for, and no peak of them lost.

N points of a line
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def thinned(x: Floats, y: Floats, columns: int) -> tuple[Floats, Floats]:
    """Points of a line x, y [N], x ascending, that look the same on `columns` pixels; NaN are left out.

    Of all points in a column of pixels the first, the lowest, the highest and the last stay.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if x.size <= 4 * columns:
        return x, y
    width = x[-1] - x[0] or 1.0
    column = np.minimum((x - x[0]) / width * columns, columns - 1).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    kept = []
    for first, end in zip(starts, [*starts[1:], x.size], strict=True):
        piece = y[first:end]
        kept += [first, first + int(piece.argmin()), first + int(piece.argmax()), end - 1]
    chosen = np.unique(kept)
    return x[chosen], y[chosen]


def binned(
    x: Floats, rows: list[Floats], most: int, reduce: Callable[[Floats], float] = np.median
) -> tuple[Floats, list[Floats]]:
    """Edges of at most `most` bins of as many points each, and what `reduce` makes of each row in a bin.

    Points x [N] are epochs: a bin goes from its first to the first of the next one.
    """
    count = min(most, x.size)
    cuts = np.linspace(0, x.size, count + 1).round().astype(np.int64)
    edges = np.append(x[cuts[:-1]], x[-1] + 1)
    pairs = list(itertools.pairwise(cuts))
    return edges, [np.array([reduce(row[first:end]) for first, end in pairs]) for row in rows]
