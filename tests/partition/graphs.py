"""Random small graphs with everything that makes a partitioner stumble, and a reader that undoes a store.

Isolated nodes, duplicate arcs, self loops, several components and graphs without a single arc all occur.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import scipy.sparse as sp

from partition.graph import Graph
from partition.store import Part, open_part, read_manifest


@st.composite
def graphs(draw: st.DrawFn, least_nodes: int = 3, most_nodes: int = 24) -> Graph:
    nodes = draw(st.integers(least_nodes, most_nodes))
    connected = draw(st.integers(1, nodes))  # nodes beyond it are isolated
    ends = st.integers(0, connected - 1)
    arcs = draw(st.lists(st.tuples(ends, ends), max_size=4 * nodes))
    arcs += draw(st.lists(st.sampled_from(arcs), max_size=5)) if arcs else []
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.booleans()):  # two components: no arc between even and odd nodes
        arcs = [(a, b) for a, b in arcs if (a - b) % 2 == 0]
    return random_graph(
        rng,
        np.array(arcs, np.int64).reshape(-1, 2).T,
        nodes,
        multi=draw(st.booleans()),
        sparse=draw(st.booleans()),
        directed=draw(st.booleans()),
    )


def random_graph(
    rng: np.random.Generator,
    edge_index: np.ndarray,
    nodes: int,
    *,
    multi: bool = False,
    sparse: bool = False,
    directed: bool = False,
) -> Graph:
    features = rng.standard_normal((nodes, 3)).astype(np.float32)
    features[rng.random((nodes, 3)) < 0.5] = 0
    labels = rng.integers(0, 2, (nodes, 3)) if multi else rng.integers(0, min(4, nodes), nodes)
    split = rng.integers(0, 4, nodes).astype(np.uint8)
    split[rng.permutation(nodes)[:3]] = (1, 2, 3)
    return Graph.from_arrays(
        edge_index,
        features=sp.csr_matrix(features) if sparse else features,
        labels=labels,
        split=split,
        directed=directed,
        name="random",
    )


def random_arcs(rng: np.random.Generator, nodes: int, arcs: int) -> np.ndarray:
    return rng.integers(0, nodes, (2, arcs))


def arc_set(graph: Graph) -> set[tuple[int, int]]:
    """(source, target) of every arc."""
    targets = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    return set(zip(graph.indices.tolist(), targets.tolist(), strict=True))


def read_parts(folder: Path) -> list[Part]:
    return [open_part(folder, part) for part in range(read_manifest(folder).parts)]


def rows_of(indptr: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(indptr.size - 1), np.diff(indptr))


@dataclasses.dataclass(frozen=True)
class Whole:
    """The graph put together again from its parts, in original node order."""

    arcs: list[tuple[int, int]]
    features: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    in_degree: np.ndarray
    out_degree: np.ndarray


def put_together(parts: list[Part]) -> Whole:
    """Undo the store, knowing only what its docstrings say."""
    original = np.concatenate([part.node_ids for part in parts])  # by global id
    arcs: list[tuple[int, int]] = []
    for part in parts:
        inner = part.node_ids[part.inner_indices], part.node_ids[rows_of(part.inner_indptr)]
        halo = original[part.halo_ids[part.halo_indices]], part.node_ids[rows_of(part.halo_indptr)]
        for sources, targets in (inner, halo):
            arcs += zip(sources.tolist(), targets.tolist(), strict=True)
    place = np.argsort(original)

    def in_original_order(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])[place]

    names = ("features", "labels", "split", "in_degree", "out_degree")
    return Whole(arcs, *(in_original_order(name) for name in names))
