"""Arcs as they come, checked and made into an Adjacency.

Shapes:
    N nodes   E arcs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, IntArray, csr_from_arcs
from partition.arrays import WHOLE, as_numpy, check_kind
from partition.errors import UserError, one_line
from partition.weights import arc_weights, checked_weights


def adjacency_of(
    name: str,
    edge_index: npt.ArrayLike | Callable[[], npt.ArrayLike],
    num_nodes: int,
    *,
    directed: bool,
    scratch: Path | None,
    edge_weight: npt.ArrayLike | Callable[[], npt.ArrayLike] | None = None,
) -> tuple[Adjacency, tuple[str, ...]]:
    """The arcs `edge_index` [2, E] as CSR with their weights [E], and what should be said about them.

    Functions are called to read both, which are let go afterwards; weights are kept in memory.

    Raises:
        UserError: they are no arcs between N nodes, no weights of them, or `scratch` cannot be written.
    """
    read = edge_index() if callable(edge_index) else edge_index
    source, target = checked_arcs(name, as_numpy(f"{name}: edge_index", read), num_nodes)
    try:
        made = csr_from_arcs(source, target, num_nodes, symmetrise=not directed, scratch=scratch)
    except OSError as error:
        raise UserError(f"scratch={scratch}: cannot keep the adjacency ({one_line(error)})") from error
    if edge_weight is None:
        return made, ()
    read = edge_weight() if callable(edge_weight) else edge_weight
    given = checked_weights(name, as_numpy(f"{name}: edge_weight", read), source.size)
    weights, notes = arc_weights(made, source, target, given, symmetrised=not directed)
    return dataclasses.replace(made, weights=weights), notes


def checked_arcs(name: str, edge_index: npt.NDArray[Any], num_nodes: int) -> IntArray:
    """`edge_index` as signed integers [2, E].

    Raises:
        UserError: another shape, a fraction, or a node beyond N.
    """
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise UserError(f"{name}: edge_index has shape {edge_index.shape}; expected [2, E]")
    check_kind(f"{name}: edge_index", edge_index, WHOLE, "int32 or int64")
    if edge_index.shape[1]:
        low, high = int(edge_index.min()), int(edge_index.max())
        if low < 0 or high >= num_nodes:
            wrong = low if low < 0 else high
            column = int(np.flatnonzero((edge_index == wrong).any(axis=0))[0])
            raise UserError(
                f"{name}: edge {column} names node {wrong}, but there are {num_nodes} nodes (labels); "
                f"ids go from 0 to {num_nodes - 1}"
            )
    unsigned = edge_index.dtype.kind == "u" and edge_index.dtype.itemsize == 8
    return edge_index.view(f"{edge_index.dtype.byteorder}i8") if unsigned else edge_index
