"""Features that look unscaled are said aloud, scaled and ordinary ones are not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from bnsgcn.train.unscaled import unscaled_notes
from partition.build import partition_graph
from partition.graph import Graph
from partition.sources import load
from partition.store import open_part


def notes(graph: Graph, folder: Path) -> list[str]:
    partition_graph(graph, parts=2, out=folder, method="random")
    return unscaled_notes(open_part(folder, 0))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: x * np.logspace(0, 3, 64), "deviations go from"),
        (lambda x: x + 1, "means make up"),
        (lambda x: x, ""),
        (lambda x: x * 1000, ""),
    ],
    ids=["columns", "offset", "as they are", "large"],
)
def test_a_sample_of_the_rows_tells(spoil, said, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = load("synthetic:nodes=500")
    graph = dataclasses.replace(made, features=spoil(made.features).astype(np.float32))
    found = notes(graph, tmp_path / "raw")
    assert (said in found[0] and "features=standardise" in found[0]) if said else not found
    assert not notes(graph.standardised(), tmp_path / "scaled")
    wide = sp.csr_matrix(np.concatenate([graph.features, np.zeros((500, 600), np.float32)], 1))
    sparse = dataclasses.replace(graph, features=wide, stored="sparse")
    assert notes(sparse, tmp_path / "sparse") == found
