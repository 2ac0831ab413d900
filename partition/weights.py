"""Edge weights: as they come, checked, and one for every arc of an adjacency.

An arc that is listed several times weighs the sum, as when scipy or PyG coalesce. Where arcs are symmetrised,
an edge given in one direction weighs the same in both, and one given in both the mean of the two: listing
every edge twice, as PyG and DGL do, doubles nothing. The weight of a self loop goes with the loop.

Shapes:
    N nodes   A arcs as they come   E arcs of the adjacency
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from partition.adjacency import SCAN_ARCS, Adjacency, IntArray, row_numbers
from partition.arrays import REAL, check_kind
from partition.errors import UserError

Float32Array = npt.NDArray[np.float32]

LEAST, MOST = 1e-30, 1e30
"""Other weights than 0 lie between; degrees and their inverses are float32 then."""
IGNORE = "edge_weights=ignore leaves the weights out"
USES = ("use", "ignore")


def uses_weights(where: str, choice: str) -> bool:
    """Whether `edge_weights=CHOICE` takes the weights that there are.

    Raises:
        UserError: it says neither use nor ignore.
    """
    if choice not in USES:
        raise UserError(f"{where}: edge_weights={choice} is neither {' nor '.join(USES)}")
    return choice == "use"


def checked_weights(name: str, weights: npt.NDArray[Any], arcs: int) -> npt.NDArray[Any]:
    """`weights` as real numbers [A].

    Raises:
        UserError: another shape, or a weight that is negative, not finite or out of range.
    """
    if weights.shape not in ((arcs,), (arcs, 1)):
        raise UserError(f"{name}: edge_weight has shape {weights.shape} for {arcs} edges; {IGNORE}")
    check_kind(f"{name}: edge_weight", weights, REAL, "real numbers")
    weights = weights.reshape(arcs)
    for start in range(0, arcs, SCAN_ARCS):
        piece = weights[start : start + SCAN_ARCS]
        fits = (piece == 0) | ((piece >= LEAST) & (piece <= MOST))
        if not fits.all():
            arc = start + int(fits.argmin())
            raise UserError(
                f"{name}: edge {arc} weighs {weights[arc]}; weights are 0 or between {LEAST:g} and {MOST:g}: "
                f"scale or replace them, or {IGNORE}"
            )
    return weights


def arc_weights(
    adjacency: Adjacency, source: IntArray, target: IntArray, weights: npt.NDArray[Any], *, symmetrised: bool
) -> tuple[Float32Array | None, tuple[str, ...]]:
    """Weights [E] of the adjacency that was made of the arcs source -> target [A], and what to say of them.

    None where they are all 1.
    """
    total, given = _summed(adjacency, source, target, weights)
    differing = 0
    if symmetrised:
        reverse = np.argsort(adjacency.indices, kind="stable")  # rows and columns are the same lists
        back, both = total[reverse], given & given[reverse]
        differing = int(np.count_nonzero(both & (abs(total - back) > 1e-6 * total))) // 2
        total += back
        total[both] /= 2
    if (total == 1).all():
        return None, ()
    notes = [f"edges have weights, {total.min():.4g} to {total.max():.4g}; {IGNORE}"]
    if differing:
        notes.append(f"{differing} edges weigh differently in their two directions: the mean is taken")
    return total.astype(np.float32), tuple(notes)


def _summed(
    adjacency: Adjacency, source: IntArray, target: IntArray, weights: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Per arc of the adjacency, the sum of what was given for it, in that order, and whether any was."""
    total, given = np.zeros(adjacency.num_arcs), np.zeros(adjacency.num_arcs, np.bool_)
    for first, last in adjacency.stretches(arcs=1 << 26):
        begin, end = adjacency.indptr[first], adjacency.indptr[last]
        keys = row_numbers(adjacency.indptr[first : last + 1] - begin).astype(np.int64)
        keys *= adjacency.num_nodes
        keys += adjacency.indices[begin:end]
        for start in range(0, source.size, SCAN_ARCS):
            piece = slice(start, start + SCAN_ARCS)
            rows, columns = target[piece], source[piece]
            kept = (rows >= first) & (rows < last) & (rows != columns)
            wanted = (rows[kept].astype(np.int64) - first) * adjacency.num_nodes + columns[kept]
            place = begin + np.searchsorted(keys, wanted)
            np.add.at(total, place, weights[piece][kept].astype(np.float64))
            given[place] = True
    return total, given
