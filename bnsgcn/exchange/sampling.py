"""Which boundary rows travel in an epoch: draws, as pure functions of (seed, epoch, sender, reader, layer).

Both ends of a boundary list compute the same draw, so no ids travel. Nothing here communicates.

A *boundary list* is the rows of one sender that one reader has as halo slots, n of them. A draw takes
exactly k = round(rate n) of them (at least 1 when rate > 0 and n > 0) and scales each by one over its
probability of being taken, so that the sum over the list stays unbiased (BNS-GCN, Wan et al., MLSys 2022).

The generator is NumPy's Philox, keyed by the five numbers; only its raw 64-bit words are used, whose
stream NumPy keeps fixed.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from bnsgcn.config import ModelName

IntArray = npt.NDArray[np.int64]
Degrees = npt.NDArray[np.int64] | npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float64]

_MASK = (1 << 64) - 1
EVERY_LAYER = -1
"""The layer of a draw that all layers share."""


@dataclasses.dataclass(frozen=True)
class ListDraw:
    """The rows taken from one boundary list.

    chosen: int64 [k], ascending positions in the list.   scale: float64 [k], 1 / probability of being taken.
    """

    chosen: IntArray
    scale: FloatArray


def draw_size(rows: int, rate: float) -> int:
    """How many of `rows` are drawn: round(rate rows), but at least 1 when both are positive."""
    return min(rows, max(round(rate * rows), 1)) if rate > 0 and rows > 0 else 0


def raw_words(
    seed: int, epoch: int, sender: int, reader: int, layer: int, count: int
) -> npt.NDArray[np.uint64]:
    """`count` 64-bit words, a pure function of the arguments."""
    who = (sender & 0xFFFFFF) << 40 | (reader & 0xFFFFFF) << 16 | ((layer + 1) & 0xFFFF)
    generator = np.random.Philox(key=[seed & _MASK, who], counter=[0, 0, 0, epoch & _MASK])
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def draw_uniform(
    *, seed: int, epoch: int, sender: int, reader: int, rows: int, rate: float, layer: int = EVERY_LAYER
) -> ListDraw:
    """k of `rows` positions, every k-subset equally likely; scale rows / k."""
    k = draw_size(rows, rate)
    if k == rows:
        return ListDraw(np.arange(rows, dtype=np.int64), np.ones(rows))
    if k == 0:
        return ListDraw(np.empty(0, np.int64), np.empty(0))
    words = raw_words(seed, epoch, sender, reader, layer, rows)
    chosen = np.sort(np.argpartition(words, k - 1)[:k]).astype(np.int64)
    return ListDraw(chosen, np.full(k, rows / k))


def slot_importance(
    model: ModelName,
    arc_slot: npt.NDArray[np.integer],
    in_degree: Degrees,
    out_degree: Degrees,
    arc_weight: npt.NDArray[np.float32] | None = None,
) -> FloatArray:
    """What every halo slot weighs in its reader's sums, [H].

    With a_ij the weight of slot j in row i (w / d_i for a mean, w / sqrt(d_i d_j) for GCN), slot j weighs
    sqrt(sum_i a_ij^2): the draw's error in the sums is then the smallest for rows of equal size.

    Args:
        arc_slot: [E], the slot that an arc comes from, arcs into a later row after those into an earlier one.
        in_degree: [E], of the row that the arc goes to.
        out_degree: [H], of the slots; looked at for gcn alone.
        arc_weight: [E], w of an arc; None = 1.
    """
    rows, slots = (np.where(degree > 0, degree, 1).astype(np.float64) for degree in (in_degree, out_degree))
    shares = rows ** (-1.0 if model == "gcn" else -2.0)
    if arc_weight is not None:
        shares *= arc_weight.astype(np.float64) ** 2
    squares = np.bincount(arc_slot, shares, out_degree.size)
    return np.sqrt(squares / slots if model == "gcn" else squares)


def inclusion_probabilities(weight: FloatArray, rate: float) -> FloatArray:
    """Probabilities [n] proportional to `weight` [n], capped at 1, that sum to k = draw_size(n, rate).

    Rows of weight 0 get the probability that a uniform draw gives to the share that is left, so that no
    row is dropped for good.
    """
    rows = weight.size
    assert np.isfinite(weight).all(), weight
    assert (weight >= 0).all(), weight
    k = draw_size(rows, rate)
    if k in (0, rows):
        return np.full(rows, float(k > 0))
    positive = weight > 0
    floor = weight[positive].min() if positive.any() else 1.0
    weight = np.where(positive, weight, floor)
    order = np.argsort(-weight, kind="stable")
    descending = weight[order]
    # The i largest are capped at 1; the rest share k - i. Take the first i that caps nobody else.
    rest = np.cumsum(descending[::-1])[::-1]
    capped = np.arange(rows)
    fits = (k - capped) * descending <= rest
    first = int(np.argmax(fits))
    probability = np.ones(rows)
    probability[order[first:]] = (k - first) * descending[first:] / rest[first]
    return np.minimum(probability, 1.0)


def draw_systematic(
    probability: FloatArray, *, seed: int, epoch: int, sender: int, reader: int, layer: int = EVERY_LAYER
) -> ListDraw:
    """Systematic sampling: row i is taken with probability[i] exactly; the size is round(sum(probability)).

    One uniform offset u; row i is taken when an integer + u falls into its stretch of the running sum
    (Madow, 1949).
    """
    word = int(raw_words(seed, epoch, sender, reader, layer, 1)[0])
    return systematic(probability, (word >> 11) / (1 << 53))


def systematic(probability: FloatArray, offset: float) -> ListDraw:
    """The systematic sample of `probability` [n] at `offset` in [0, 1); a pure function of both."""
    rows = probability.size
    if rows == 0:
        return ListDraw(np.empty(0, np.int64), np.empty(0))
    ends = np.cumsum(probability)
    size = round(float(ends[-1]))
    ends[-1] = size  # the sum is an integer but for rounding
    marks = np.arange(size) + offset
    chosen = np.minimum(np.searchsorted(ends, marks, side="right"), rows - 1).astype(np.int64)
    return ListDraw(chosen, 1.0 / probability[chosen])
