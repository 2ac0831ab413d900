"""What a folder of parts costs: balance, halo, volume; from the array files alone.

Shapes:
    P parts
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import Int64Array
from partition.graph import TRAIN
from partition.store import Manifest, read_array, read_manifest

BALANCED = ("send_rows", "recv_rows", "inner_nodes", "arcs", "train_nodes", "inner_arcs", "halo_arcs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartQuality:
    """One part's share."""

    part: int
    inner_nodes: int
    inner_arcs: int
    """Arcs between inner rows."""
    halo_arcs: int
    """Arcs from halo slots."""
    arcs: int
    """Arcs into inner rows: what the worker sums in a layer."""
    halo_slots: int
    boundary_rows: int
    """Listed once per reader."""
    send_rows: int
    """Rows sent per layer at rate 1 = boundary_rows."""
    recv_rows: int
    """Rows received per layer at rate 1 = halo_slots."""
    train_nodes: int
    val_nodes: int
    test_nodes: int
    feature_bytes: int
    components: int
    """Connected components of the inner arcs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """A partitioning's figures."""

    name: str
    method: str
    objective: str
    num_nodes: int
    num_arcs: int
    num_features: int
    num_classes: int
    parts: int
    edge_cut: int
    """Edges between parts: crossing arcs, halved for an undirected graph."""
    total_volume: int
    """Halo slots of all parts: rows sent per layer at rate 1."""
    halo_per_node: float
    """total_volume / num_nodes."""
    worst_over_mean: dict[str, float]
    """Largest part over the mean part, for each kind of load; 1 where there is none of it."""
    per_part: tuple[PartQuality, ...]
    """By part."""
    volume: Int64Array
    """[P, P] rows sent per layer from owner (row) to reader (column)."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["per_part"] = [dataclasses.asdict(part) for part in self.per_part]
        plain["volume"] = self.volume.tolist()
        return plain

    def worst_first(self) -> list[PartQuality]:
        """Parts by their largest load relative to the mean: the one that others wait for comes first."""
        loads = np.array(
            [[part.send_rows, part.recv_rows, part.arcs, part.inner_nodes] for part in self.per_part]
        )
        mean = np.maximum(loads.mean(axis=0), 1e-12)
        return [self.per_part[part] for part in np.argsort(-(loads / mean).max(axis=1), kind="stable")]


def inspect_parts(folder: Path | str) -> Quality:
    """Figures of a folder of parts; ValueError names a missing or broken file."""
    manifest = read_manifest(folder)
    per_part, volume = [], np.zeros((manifest.parts, manifest.parts), np.int64)
    for part in range(manifest.parts):
        measured, received = _measure(Path(folder), manifest, part)
        per_part.append(measured)
        volume[:, part] = received
    crossing = sum(part.halo_arcs for part in per_part)
    total = int(volume.sum())
    return Quality(
        name=manifest.name,
        method=manifest.method,
        objective=manifest.objective,
        num_nodes=manifest.num_nodes,
        num_arcs=manifest.num_arcs,
        num_features=manifest.num_features,
        num_classes=manifest.num_classes,
        parts=manifest.parts,
        edge_cut=crossing if manifest.directed else crossing // 2,
        total_volume=total,
        halo_per_node=total / manifest.num_nodes,
        worst_over_mean={key: worst_over_mean([getattr(part, key) for part in per_part]) for key in BALANCED},
        per_part=tuple(per_part),
        volume=volume,
    )


def worst_over_mean(loads: list[int]) -> float:
    """Largest over mean; 1 for no load at all."""
    mean = sum(loads) / len(loads)
    return max(loads) / mean if mean else 1.0


def _measure(folder: Path, manifest: Manifest, part: int) -> tuple[PartQuality, Int64Array]:
    arrays = {
        name: read_array(folder, manifest, part, name, verify=False)
        for name in (
            "inner_indptr",
            "inner_indices",
            "halo_indices",
            "halo_splits",
            "boundary_rows",
            "features",
            "split",
        )
    }
    counts = np.bincount(arrays["split"], minlength=4)
    inner_arcs, halo_arcs = arrays["inner_indices"].size, arrays["halo_indices"].size
    received: Int64Array = np.diff(arrays["halo_splits"])
    measured = PartQuality(
        part=part,
        inner_nodes=manifest.part_nodes[part],
        inner_arcs=inner_arcs,
        halo_arcs=halo_arcs,
        arcs=inner_arcs + halo_arcs,
        halo_slots=int(received.sum()),
        boundary_rows=arrays["boundary_rows"].size,
        send_rows=arrays["boundary_rows"].size,
        recv_rows=int(received.sum()),
        train_nodes=int(counts[TRAIN]),
        val_nodes=int(counts[2]),
        test_nodes=int(counts[3]),
        feature_bytes=int(arrays["features"].nbytes),
        components=_components(arrays["inner_indptr"], arrays["inner_indices"]),
    )
    return measured, received


def _components(indptr: npt.NDArray[Any], indices: npt.NDArray[Any]) -> int:
    rows = indptr.size - 1
    matrix = sp.csr_matrix((np.ones(indices.size, np.int8), indices, indptr), shape=(rows, rows))
    return int(sp.csgraph.connected_components(matrix, directed=False, return_labels=False))
