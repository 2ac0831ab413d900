"""Arcs into CSR: whatever the number of ranges and wherever the result lies, the same as a set of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partition import adjacency
from partition.adjacency import Adjacency, csr_from_arcs, row_entries


def pairs(found: Adjacency) -> list[tuple[int, int]]:
    targets = np.repeat(np.arange(found.num_nodes), np.diff(found.indptr))
    return list(zip(found.indices.tolist(), targets.tolist(), strict=True))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    nodes=st.integers(1, 12),
    arcs=st.integers(0, 60),
    symmetrise=st.booleans(),
    bucket=st.sampled_from((1, 7, 1 << 20)),
)
def test_any_number_of_ranges_gives_the_set_of_arcs(
    seed: int, nodes: int, arcs: int, symmetrise: bool, bucket: int
) -> None:
    source, target = np.random.default_rng(seed).integers(0, nodes, (2, arcs), dtype=np.int32)
    expected = {(a, b) for a, b in zip(source.tolist(), target.tolist(), strict=True) if a != b}
    if symmetrise:
        expected |= {(b, a) for a, b in expected}
    found = csr_from_arcs(source, target, nodes, symmetrise=symmetrise, bucket=bucket)
    assert found.indices.dtype == np.int32
    assert pairs(found) == sorted(expected, key=lambda arc: (arc[1], arc[0]))
    assert set(pairs(found.undirected())) == expected | {(b, a) for a, b in expected}
    assert set(pairs(found.transposed())) == {(b, a) for a, b in expected}


def test_many_scans_of_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = np.random.default_rng(1).integers(0, 50, (2, 400), dtype=np.int32)
    whole = csr_from_arcs(source, target, 50, symmetrise=True)
    monkeypatch.setattr(adjacency, "SCAN_ARCS", 33)
    pieces = csr_from_arcs(source, target, 50, symmetrise=True, bucket=90)
    assert np.array_equal(whole.indptr, pieces.indptr)
    assert np.array_equal(whole.indices, pieces.indices)


def test_scratch_keeps_the_adjacency_on_disk(tmp_path: Path) -> None:
    source, target = np.random.default_rng(1).integers(0, 50, (2, 400), dtype=np.int32)
    whole = csr_from_arcs(source, target, 50, symmetrise=True)
    mapped = csr_from_arcs(source, target, 50, symmetrise=True, bucket=90, scratch=tmp_path)
    assert isinstance(mapped.indices, np.memmap)
    assert np.array_equal(whole.indptr, mapped.indptr)
    assert np.array_equal(whole.indices, mapped.indices)
    assert list(tmp_path.iterdir()) == []  # nothing stays behind
    empty = csr_from_arcs(source[:0], target[:0], 50, symmetrise=True, scratch=tmp_path)
    assert empty.num_arcs == 0
    with pytest.raises(ValueError, match="no such folder"):
        csr_from_arcs(source, target, 50, symmetrise=True, scratch=tmp_path / "nowhere")


def test_stretches_cover_the_rows_and_keep_to_their_limits() -> None:
    found = Adjacency(np.array([0, 2, 2, 7, 8, 8]), np.zeros(8, np.int32))
    assert list(found.stretches(arcs=3)) == [(0, 2), (2, 3), (3, 5)]
    assert list(found.stretches(arcs=100)) == [(0, 5)]
    assert list(found.stretches(arcs=100, rows=2)) == [(0, 2), (2, 4), (4, 5)]


def test_row_entries() -> None:
    splits, index = row_entries(np.array([0, 2, 2, 5]), np.array([2, 0, 1]))
    assert splits.tolist() == [0, 3, 5, 5]
    assert index.tolist() == [2, 3, 4, 0, 1]
