"""Graphs from arrays: what is taken as it comes, and what is refused in one line."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from partition.errors import UserError
from partition.graph import Graph
from partition.sources import load
from tests.partition.archives import arrays_of_a_graph, write
from tests.partition.graphs import arc_set

EDGES = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
LABELS = np.arange(10) % 2
FEATURES = np.arange(30, dtype=np.float32).reshape(10, 3)
CODES = np.array([1, 1, 1, 2, 2, 2, 3, 3, 3, 0])


def made(**changes: Any) -> Graph:
    arrays = {"edge_index": EDGES, "features": FEATURES, "labels": LABELS, "split": CODES, **changes}
    return Graph.from_arrays(arrays.pop("edge_index"), **arrays)


def test_from_arrays_without_a_split_says_so() -> None:
    assert "60/20/20" in made(split=None).notes[0]
    assert "with seed 18446744073709551615" in made(split=None, split_seed=2**64 - 1).notes[0]


def test_a_split_of_codes_lists_or_masks_is_the_same() -> None:
    lists = tuple(np.flatnonzero(code == CODES) for code in (1, 2, 3))
    masks = [code == CODES for code in (1, 2, 3)]
    for split in (CODES, CODES.tolist(), lists, [entry.tolist() for entry in lists], masks):
        assert np.array_equal(made(split=split).split, CODES)
    three = Graph.from_arrays(EDGES[:, :2], features="degree", labels=[0, 1, 0], split=[1, 2, 3])
    assert three.split.tolist() == [1, 2, 3]


def test_sparse_features_of_every_form_are_the_same() -> None:
    whole = made(features=sp.csr_matrix(FEATURES))
    for form in ("csr", "csc", "coo", "bsr", "lil", "dok", "dia"):
        for kind in (sp.csr_matrix, sp.csr_array):
            assert made(features=kind(FEATURES).asformat(form)).digest() == whole.digest(), form
    assert np.array_equal(whole.features.toarray(), FEATURES)


def test_the_callers_matrix_is_left_as_it_was() -> None:
    matrix = sp.csr_matrix(FEATURES)
    backwards = sp.csr_matrix(
        (matrix.data[::-1].copy(), matrix.indices[::-1].copy(), matrix.indptr[-1] - matrix.indptr[::-1]),
        shape=matrix.shape,
    )
    before = backwards.indices.copy()
    assert np.array_equal(made(features=backwards).features.toarray(), FEATURES[::-1, :])
    assert np.array_equal(backwards.indices, before)


def test_arrays_may_be_read_when_they_are_needed() -> None:
    asked: list[str] = []

    def read(name: str, array: np.ndarray) -> np.ndarray:
        asked.append(name)
        return array

    late = made(edge_index=lambda: read("arcs", EDGES), features=lambda: read("features", FEATURES))
    assert late.digest() == made().digest()
    assert asked == ["arcs", "features"]


def test_tensors_are_taken_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    tensors = {
        "edge_index": torch.from_numpy(EDGES),
        "features": torch.from_numpy(FEATURES).requires_grad_(),
        "labels": torch.from_numpy(LABELS),
        "split": [torch.from_numpy(code == CODES) for code in (1, 2, 3)],
        "num_classes": torch.tensor(2),
    }
    assert made(**tensors).digest() == made().digest()
    with pytest.raises(UserError, match="features cannot be read as an array"):
        made(features=torch.from_numpy(FEATURES).to_sparse())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": CODES * 1.0}, "split has dtype float64"),
        ({"split": CODES + 1}, "split code 4; codes are 0 none, 1 train, 2 val, 3 test"),
        ({"split": CODES - 1}, "split code -1"),
        ({"split": CODES + 256}, "split code 259"),
        ({"split": CODES == 1}, r"split has dtype bool; expected codes .* or three lists"),
        ({"split": CODES[:-1]}, r"split of shape \(9,\) for 10 nodes"),
        ({"split": ([0, 1], [1.5], [2])}, "val_idx has dtype float64"),
        ({"split": ([0, 1], [10], [2])}, "val_idx names node 10"),
        ({"split": (CODES[:9] == 1, [3], [2])}, "train_idx is a mask of 9 entries for 10 nodes"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"split_seed": 2**64}, "split_seed is 18446744073709551616"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 2.5}, "num_classes has dtype float64"),
        ({"num_classes": [2, 3]}, r"num_classes has shape \(2,\)"),
        ({"num_classes": 2**70}, "num_classes has dtype object"),
        ({"num_classes": 1}, "label 1 of node 1 is out of range with 1 classes"),
        ({"labels": np.eye(10), "num_classes": 3}, "num_classes is 3, but multi-hot labels have 10 columns"),
        ({"labels": [[0], [1, 2]]}, "label cannot be read as an array"),
        ({"labels": ["a"] * 10}, "label has dtype <U1"),
        ({"labels": LABELS * 1j}, "label has dtype complex128"),
        ({"labels": [None] * 10}, "label has dtype object"),
        ({"labels": np.full(10, np.inf)}, "label inf of node 0"),
        ({"labelled": [10]}, "labelled names node 10"),
        ({"features": FEATURES * 1j}, "feature array has dtype complex64"),
        ({"features": sp.csr_matrix(FEATURES * 1j)}, "feat_data has dtype complex64"),
        ({"features": sp.coo_matrix(FEATURES * 1j)}, "feature array has dtype complex64"),
        ({"features": FEATURES.astype(str)}, "feature array has dtype <U32"),
        ({"features": FEATURES[:, :0]}, "features have 0 columns"),
        ({"features": FEATURES[0]}, r"features have shape \(3,\)"),
        ({"features": "ones"}, "features=ones is unknown; use features=degree"),
        ({"features": np.where(FEATURES == 13, np.nan, FEATURES)}, "features of row 4"),
        ({"features": sp.csc_matrix(np.where(FEATURES == 13, np.nan, FEATURES))}, "features of row 4"),
        ({"edge_index": EDGES > 1}, "edge_index has dtype bool"),
        ({"edge_index": EDGES * 1j}, "edge_index has dtype complex128"),
        ({"edge_index": [[0, 1], [2]]}, "edge_index cannot be read as an array"),
        ({"part_of": np.zeros(10)}, "part_of has dtype float64"),
    ],
)
def test_bad_arrays(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        made(**changes)


def test_a_matrix_tampered_with_is_refused_before_compiled_code_sees_it() -> None:
    for form, changes in {
        "csr": {"indptr": np.r_[0, 2**62, np.arange(8), 27]},
        "csc": {"indices": np.full(27, 10**9)},
        "coo": {"row": np.full(27, -1)},
    }.items():
        matrix = sp.csr_matrix(FEATURES + 1)[:, :].asformat(form)
        for name, array in changes.items():
            setattr(matrix, name, array)
        with pytest.raises(UserError, match=r"feat_|CSR features|features"):
            made(features=matrix)


class SparseTensor:
    """torch_sparse's: row, column and value of the transposed adjacency."""

    def coo(self) -> tuple[np.ndarray, np.ndarray, None]:
        return np.array([1, 2]), np.array([0, 1]), None


def test_a_transposed_adjacency_keeps_its_direction() -> None:
    """Row i of PyG's adj_t lists the sources of the arcs into i."""
    torch = pytest.importorskip("torch")
    dense = torch.zeros(10, 10)
    dense[1, 0] = dense[2, 1] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its CSR tensors are in beta
        tensors = dense.to_sparse_csr(), dense.to_sparse_coo()
    for adj_t in (SparseTensor(), *tensors):
        found = {"adj_t": adj_t, "x": FEATURES, "y": LABELS}

        class Data(dict[str, Any]):
            adj_t = found["adj_t"]

        graph = Graph.from_pyg(Data(found), directed=True)
        assert arc_set(graph) == {(0, 1), (1, 2)}
    with pytest.raises(UserError, match="neither edge_index nor adj_t"):
        Graph.from_pyg({"x": FEATURES})


def test_degree_features_are_of_the_graph_as_it_is_read(tmp_path: Path) -> None:
    """However the arcs came: twice, one way or with loops."""
    arrays = arrays_of_a_graph()
    found = {"edge_index": arrays["edge_index"], "y": arrays["label"]}

    class Data(dict[str, Any]):
        edge_index = found["edge_index"]

    graph = Graph.from_pyg(Data(found), features="degree")
    assert np.array_equal(graph.features, load(write(tmp_path, {}) + ",features=degree").features)


WITHOUT = """
import sys
absent = ("dgl", "ogb", "torch_geometric", "pandas", "matplotlib", "outdated", "torch_sparse")
sys.modules.update(dict.fromkeys(absent))
import pkgutil, importlib, partition
from pathlib import Path
for module in pkgutil.walk_packages(partition.__path__, "partition."):
    importlib.import_module(module.name)
from partition.build import partition_graph
from partition.errors import UserError
from partition.sources import load
folder = Path(sys.argv[1])
partition_graph(f"npz:{folder}/graph.npz", parts=2, out=folder / "npz")
partition_graph("synthetic:nodes=50", parts=2, out=folder / "synthetic")
graph = load("synthetic:nodes=50")
(folder / "ogbn_arxiv" / "raw").mkdir(parents=True)
(folder / "ogbn_arxiv" / "raw" / "edge.csv.gz").touch()
for asked in (
    lambda: load("dgl:cora"), lambda: load("pyg:Planetoid/Cora"),
    lambda: load(f"ogb:ogbn-arxiv,root={folder}"), lambda: load(f"ogb:ogbn-products,root={folder}"),
    graph.to_dgl, graph.to_pyg,
):
    try:
        asked()
    except UserError as error:
        print(error)
assert not {name for name in absent if sys.modules[name]}
"""


def test_what_is_absent_is_missed_by_nothing_else(tmp_path: Path) -> None:
    """One line, where a source needs a package, says what to install."""
    write(tmp_path, {})
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    hints = [
        "pip install dgl==1.1.3",
        r"pip install 'bnsgcn[pyg]'",
        "pip install pandas",
        "pip install ogb",
        "pip install dgl==1.1.3",
        r"pip install 'bnsgcn[pyg]'",
    ]
    lines = ended.stdout.splitlines()
    assert len(lines) == len(hints)
    for line, hint in zip(lines, hints, strict=True):
        assert hint in line
