"""The whole graph out of its parts, for another cut without the source.

Every file is checked against its SHA-256 and every part against the others, so that the graph is the one that
was cut, and its digest may be taken over.

Shapes:
    N nodes   P parts   I inner rows   F features
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import (
    Adjacency,
    Int64Array,
    index_dtype,
    row_entries,
    row_numbers,
    splits_from_counts,
)
from partition.assign import Progress, Recipe
from partition.build import Built, build_parts
from partition.checks import is_symmetric
from partition.disk import check_free
from partition.errors import UserError
from partition.features import Features
from partition.fit import check_lists, check_sums, list_digests, sums
from partition.graph import Graph
from partition.manifest import AGAIN, CSR, Manifest, read_manifest
from partition.part import CsrFeatures, Part
from partition.room import check_room
from partition.scaling import Scaling
from partition.store import open_part


def repartition(folder: Path, recipe: Recipe, *, out: Path, progress: Progress) -> Built:
    """Cut the graph of the parts in `folder` anew and write it to the new folder `out`.

    Raises:
        UserError: see `graph_of_parts` and `build_parts`.
    """
    check_free(out)
    manifest = read_manifest(folder)
    graph = graph_of_parts(folder, progress)
    return build_parts(graph, recipe, out=out, progress=progress, source_digest=manifest.source_digest)


def graph_of_parts(folder: Path, progress: Progress) -> Graph:
    """The graph that was cut into the parts in `folder`, its nodes under their original ids.

    Raises:
        UserError: a file is missing or altered, the parts are not those of one graph, or the graph does not
            fit into memory.
    """
    manifest = read_manifest(folder)
    progress(f"reading the {manifest.parts} parts of {folder}")
    parts = [open_part(folder, index) for index in range(manifest.parts)]
    _check_together(parts, manifest, folder)
    original = np.concatenate([part.node_ids for part in parts])
    adjacency = _adjacency(parts, original)
    if not manifest.directed and not is_symmetric(adjacency):
        raise UserError(f"{folder}: the graph is undirected, but some arcs go one way; {AGAIN}")
    return Graph(
        adjacency=adjacency,
        features=_features(parts, manifest, original, folder),
        stored="sparse" if manifest.feature_storage == CSR else "",
        labels=_by_node([part.labels for part in parts], original),
        split=_by_node([part.split for part in parts], original),
        num_classes=manifest.num_classes,
        task="multi" if manifest.task == "multi" else "single",
        directed=manifest.directed,
        name=manifest.name,
        source=manifest.source,
        scaling=Scaling.from_json(manifest.feature_scaling),
    )


def _check_together(parts: list[Part], manifest: Manifest, folder: Path) -> None:
    """UserError unless the parts hold every node once and send what the others expect."""
    check_sums(manifest, np.sum([sums(part) for part in parts], axis=0), folder)
    lists = [list_digests(part) for part in parts]
    for index, (sent, _) in enumerate(lists):
        check_lists(index, sent, np.stack([expected[index] for _, expected in lists]), folder)
    held = np.bincount(np.concatenate([part.node_ids for part in parts]), minlength=manifest.num_nodes)
    if (held != 1).any():
        node = int((held != 1).argmax())
        raise UserError(f"{folder}: node {node} is in {held[node]} parts, must be in 1; {AGAIN}")


def _by_node(pieces: list[npt.NDArray[Any]], original: Int64Array) -> npt.NDArray[Any]:
    """[N, ...] in the order of the original ids, of the rows of each part."""
    whole = np.empty((original.size, *pieces[0].shape[1:]), pieces[0].dtype)
    start = 0
    for piece in pieces:
        whole[original[start : start + piece.shape[0]]] = piece
        start += piece.shape[0]
    return whole


def _features(parts: list[Part], manifest: Manifest, original: Int64Array, folder: Path) -> Features:
    """float32 [N, F], dense or CSR, as the parts have them."""
    if manifest.feature_storage == CSR:
        rows = sp.vstack([_as_matrix(part) for part in parts], "csr")
        return rows[np.argsort(original)]
    needed = 4 * manifest.num_nodes * manifest.num_features
    check_room(f"{folder}: the features of all parts", needed, "use a larger machine, or the source again")
    return _by_node([part.features for part in parts if not isinstance(part.features, CsrFeatures)], original)


def _as_matrix(part: Part) -> Any:
    found = part.features
    assert isinstance(found, CsrFeatures)
    shape = (part.num_inner, found.num_columns)
    return sp.csr_matrix((found.values, found.columns, found.splits), shape=shape)


def _adjacency(parts: list[Part], original: Int64Array) -> Adjacency:
    """All arcs by their targets' original ids; those of one part at a time are in memory twice."""
    num_nodes, weighted = original.size, parts[0].manifest.weighted
    indptr = splits_from_counts(_by_node([part.in_degree for part in parts], original))
    indices = np.empty(int(indptr[-1]), index_dtype(num_nodes))
    weights = np.empty(indices.size, np.float32) if weighted else None
    for part in parts:
        keys = _keys(part, original)
        _, places = row_entries(indptr, part.node_ids)
        if weights is not None:
            assert part.inner_weights is not None
            assert part.halo_weights is not None
            weighed = np.concatenate([part.inner_weights, part.halo_weights])
            weights[places] = weighed[np.argsort(keys)]
        keys.sort()
        keys %= num_nodes
        indices[places] = keys
    return Adjacency(indptr, indices, weights)


def _keys(part: Part, original: Int64Array) -> Int64Array:
    """row * N + original id of the source, of a part's inner arcs, then of those from its halo."""
    first, inner = int(part.manifest.part_offset[part.index]), part.inner_indices.size
    keys = np.empty(inner + part.halo_indices.size, np.int64)
    keys[:inner] = row_numbers(part.inner_indptr)
    keys[inner:] = row_numbers(part.halo_indptr)
    keys *= original.size
    keys[:inner] += original[first + part.inner_indices.astype(np.int64)]
    keys[inner:] += original[part.halo_ids[part.halo_indices]]
    return keys
