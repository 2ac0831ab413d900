"""Whether the parts fit each other, told by a few numbers from each.

Shapes:
    P parts
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from partition.adjacency import Int64Array
from partition.errors import UserError
from partition.labels import TEST, TRAIN, VAL
from partition.manifest import AGAIN, Manifest
from partition.part import ByteArray, Part

COUNTED = ("num_arcs", "num_train", "num_val", "num_test", "node ids", "squares of node ids")


def sums(part: Part) -> Int64Array:
    """What has to add up over all parts to `expected_sums`: int64 [6], modulo 2^64."""
    split = np.bincount(part.split, minlength=TEST + 1)
    arcs = part.inner_indices.size + part.halo_indices.size
    ids = np.asarray(part.node_ids)
    counts = [arcs, split[TRAIN], split[VAL], split[TEST], ids.sum(), (ids * ids).sum()]
    return np.array(counts, np.int64)


def check_sums(manifest: Manifest, found: Int64Array, where: Path | str) -> None:
    """Compare `sums` of all parts together with what the manifest says.

    Raises:
        UserError: they differ; `where` names the folder.
    """
    last = manifest.num_nodes - 1
    ids = last * (last + 1) // 2, last * (last + 1) * (2 * last + 1) // 6
    stated = [manifest.num_arcs, manifest.num_train, manifest.num_val, manifest.num_test, *ids]
    for name, said, counted in zip(COUNTED, stated, found.tolist(), strict=True):
        if (said - counted) % 2**64:
            raise UserError(f"{where}: {name} is {said}, but the parts have {counted}; {AGAIN}")


def list_digests(part: Part) -> tuple[Int64Array, Int64Array]:
    """(sent, expected), int64 [P, 2]: digests of the rows listed for each reader and of each owner's slots.

    What a part sends to another, and the split of these rows, must be what that one expects of it.
    """
    sent, expected = [], []
    offset = part.manifest.part_offset
    for other in range(part.manifest.parts):
        listed = slice(*part.boundary_splits[other : other + 2])
        rows = part.boundary_rows[listed]
        sent.append(_digest(rows.astype(np.int64), part.split[rows]))
        listed = slice(*part.halo_splits[other : other + 2])
        expected.append(_digest(part.halo_ids[listed] - offset[other], part.halo_split[listed]))
    return np.stack(sent), np.stack(expected)


def _digest(rows: Int64Array, split: ByteArray) -> Int64Array:
    found = hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=16)
    found.update(np.ascontiguousarray(split).tobytes())
    return np.frombuffer(found.digest(), np.int64)


def check_lists(part: int, sent: Int64Array, expected: Int64Array, where: Path | str) -> None:
    """Compare what a part sends with what each reader expects of it, both int64 [P, 2].

    Raises:
        UserError: the lists of a pair differ; `where` names the folder.
    """
    differs = (sent != expected).any(axis=1)
    if differs.any():
        reader = int(differs.argmax())
        raise UserError(
            f"{where}: the boundary rows of part {part} for part {reader} are not the halo slots that part "
            f"{reader} has of part {part}; {AGAIN}"
        )
