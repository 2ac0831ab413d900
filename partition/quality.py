"""What a folder of parts costs: balance, halo, volume; from the array files alone.

Shapes:
    P parts
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from partition.adjacency import Int64Array
from partition.errors import UserError
from partition.fit import COUNTED, check_lists, check_sums, list_digests, sums
from partition.labels import TEST, TRAIN, VAL
from partition.manifest import CSR
from partition.store import CsrFeatures, Part, open_part, read_manifest

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
    hosts: int
    """Machines, as many parts on each."""
    host_volume: int
    """Rows sent per layer from a part on one machine to one on another."""
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
    weighted: bool
    """Whether arcs have weights."""
    features_set: float | None
    """Share of the features that are set, where they are stored sparse."""
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


def inspect_parts(folder: Path | str, hosts: int = 0) -> Quality:
    """Figures of a folder of parts.

    Args:
        hosts: machines between which rows are counted; 0 = those that the parts were cut for.

    Raises:
        UserError: `hosts` does not divide the parts, a file is missing or broken, or the parts do not fit
            together; features are not looked at.
    """
    manifest = read_manifest(folder)
    hosts = hosts or manifest.hosts
    if not 1 <= hosts <= manifest.parts or manifest.parts % hosts:
        raise UserError(f"--hosts {hosts} does not divide the {manifest.parts} parts of {folder}")
    per_part, volume = [], np.zeros((manifest.parts, manifest.parts), np.int64)
    counted: Int64Array = np.zeros(len(COUNTED), np.int64)
    digests, entries = [], 0
    for index in range(manifest.parts):
        part = open_part(folder, index, verify=False)
        per_part.append(_measure(part))
        volume[:, index] = np.diff(part.halo_splits)
        counted += sums(part)
        digests.append(list_digests(part))
        if isinstance(part.features, CsrFeatures):
            entries += part.features.columns.size
    check_sums(manifest, counted, folder)
    for index, (sent, _) in enumerate(digests):
        check_lists(index, sent, np.stack([expected[index] for _, expected in digests]), folder)
    sparse = manifest.feature_storage == CSR
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
        hosts=hosts,
        host_volume=_between(volume, hosts),
        edge_cut=crossing if manifest.directed else crossing // 2,
        total_volume=total,
        halo_per_node=total / manifest.num_nodes,
        worst_over_mean={key: worst_over_mean([getattr(part, key) for part in per_part]) for key in BALANCED},
        per_part=tuple(per_part),
        weighted=manifest.weighted,
        features_set=entries / (manifest.num_nodes * manifest.num_features) if sparse else None,
        volume=volume,
    )


def _between(volume: Int64Array, hosts: int) -> int:
    """Rows that go from one machine to another."""
    host = np.arange(len(volume)) * hosts // len(volume)
    return int(volume[host[:, None] != host].sum())


def worst_over_mean(loads: list[int]) -> float:
    """Largest over mean; 1 for no load at all."""
    mean = sum(loads) / len(loads)
    return max(loads) / mean if mean else 1.0


def _measure(part: Part) -> PartQuality:
    counts = np.bincount(part.split, minlength=TEST + 1)
    inner_arcs, halo_arcs = part.inner_indices.size, part.halo_indices.size
    return PartQuality(
        part=part.index,
        inner_nodes=part.num_inner,
        inner_arcs=inner_arcs,
        halo_arcs=halo_arcs,
        arcs=inner_arcs + halo_arcs,
        halo_slots=part.num_halo,
        boundary_rows=part.boundary_rows.size,
        send_rows=part.boundary_rows.size,
        recv_rows=part.num_halo,
        train_nodes=int(counts[TRAIN]),
        val_nodes=int(counts[VAL]),
        test_nodes=int(counts[TEST]),
        feature_bytes=int(part.features.nbytes),
        components=_components(part),
    )


def _components(part: Part) -> int:
    entries = np.ones(part.inner_indices.size, np.int8), part.inner_indices, part.inner_indptr
    matrix = sp.csr_matrix(entries, shape=(part.num_inner, part.num_inner))
    return int(sp.csgraph.connected_components(matrix, directed=False, return_labels=False))
