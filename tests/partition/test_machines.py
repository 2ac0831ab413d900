"""Parts cut for machines first: few rows between them, said in the manifest, refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partition.assign import Recipe, assign
from partition.assign.machines import DEAR, machine_prices
from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import Graph
from partition.manifest import MANIFEST
from partition.quality import inspect_parts
from partition.refine.compiled import compiled
from partition.sources import load
from partition.store import read_manifest
from partition.volume import volume_matrix

COMMUNITIES = "synthetic:nodes=600,degree=10,features=4,classes=3,communities=25,between=0.3"


needs_compiler = pytest.mark.skipif(compiled() is None, reason="no C compiler here")


def quiet(_: str) -> None:
    return


def between(graph: Graph, part_of: np.ndarray, hosts: int) -> int:
    """Rows from one machine to another, counted by hand."""
    matrix = volume_matrix(graph, part_of, 4)
    return sum(int(matrix[a, b]) for a in range(4) for b in range(4) if a * hosts // 4 != b * hosts // 4)


def test_a_row_between_machines_is_dear() -> None:
    near, far = 1.0, DEAR
    expected = [[0, near, far, far], [near, 0, far, far], [far, far, 0, near], [far, far, near, 0]]
    assert machine_prices(4, 2).tolist() == expected
    assert (machine_prices(3, 3) == far * (1 - np.eye(3))).all()


@needs_compiler
def test_fewer_rows_between_machines_than_a_flat_cut_sends() -> None:
    """The best pairing of the flat cut's parts still sends more; that all parts are even costs little."""
    graph = load(COMMUNITIES)
    flat = assign(graph, Recipe(parts=4), quiet)
    pairings = ([0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 3, 1])
    lowest = min(between(graph, np.array(pairing, np.int32)[flat], 2) for pairing in pairings)
    part_of = assign(graph, Recipe(parts=4, hosts=2), quiet)
    assert np.bincount(part_of, minlength=4).min() > 120
    assert between(graph, part_of, 2) < 0.9 * lowest


@pytest.mark.parametrize("hosts", [1, 4])
def test_one_worker_a_machine_is_the_flat_cut(hosts: int) -> None:
    graph = load("synthetic:nodes=200,degree=6,features=2,classes=2,communities=8")
    flat = assign(graph, Recipe(parts=4, starts=1), quiet)
    assert np.array_equal(assign(graph, Recipe(parts=4, hosts=hosts, starts=1), quiet), flat)


def test_shares_without_arcs_are_cut_too() -> None:
    graph = load("synthetic:nodes=9,degree=2,features=2,classes=2,communities=2")
    part_of = assign(graph, Recipe(parts=8, hosts=4), quiet)
    assert np.bincount(part_of, minlength=8).min() > 0


@needs_compiler
def test_manifest_and_inspect_know_the_machines(tmp_path: Path) -> None:
    graph = load(COMMUNITIES)
    partition_graph(graph, parts=4, out=tmp_path / "two", hosts=2)
    partition_graph(graph, parts=4, out=tmp_path / "flat")
    assert read_manifest(tmp_path / "two").hosts == 2
    assert '"hosts"' not in (tmp_path / "flat" / MANIFEST).read_text(), "as parts always were"
    two, flat, counted = (
        inspect_parts(tmp_path / "two"), inspect_parts(tmp_path / "flat"), inspect_parts(tmp_path / "flat", 2)
    )  # fmt: skip
    part_of = assign(graph, Recipe(parts=4, hosts=2), quiet)
    assert (two.hosts, two.host_volume) == (2, between(graph, part_of, 2))
    assert (flat.hosts, flat.host_volume) == (1, 0)
    assert counted.host_volume > two.host_volume
    with pytest.raises(UserError, match=r"--hosts 3 does not divide the 4 parts of .*two$"):
        inspect_parts(tmp_path / "two", 3)
    path = tmp_path / "two" / MANIFEST
    path.write_text(path.read_text().replace('"hosts": 2', '"hosts": 3'))
    with pytest.raises(UserError, match="hosts is 3, which does not divide 4 parts"):
        read_manifest(tmp_path / "two")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": 3}, r"--hosts 3 does not divide --parts 8: .* use --hosts 1, 2, 4, 8, or other --parts"),
        ({"hosts": 0}, "--hosts 0 is out of range"),
        ({"hosts": 2, "method": "random"}, "--method random does not cut for machines; use metis or kahypar"),
        ({"hosts": 2, "method": "file:x.npy"}, "--method file:x.npy does not cut for machines"),
    ],
)
def test_wrong_hosts_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Recipe(**{"parts": 8, **options})
    assert "\n" not in str(error.value)
