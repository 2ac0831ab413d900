"""ogb:, dgl: and pyg: on small folders in exactly the form in which those libraries keep them; objects."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import Graph
from partition.optional import optional
from partition.sources import load
from partition.sources.ogb import edge_means, quiet_ogb
from partition.store import read_manifest
from tests.partition.graphs import arc_set, random_arcs, random_graph

NODES = 12
ARCS = np.array([[0, 1, 1, 2, 5, 5, 7], [1, 0, 2, 3, 5, 4, 8]])  # one edge both ways, one loop
EDGES = {(0, 1), (1, 2), (2, 3), (4, 5), (7, 8)}
BOTH_WAYS = EDGES | {(b, a) for a, b in EDGES}
FEATURES = np.arange(NODES * 3, dtype=np.float32).reshape(NODES, 3)
LABELS = np.arange(NODES) % 4
SPLIT = {"train": np.arange(6), "valid": np.arange(6, 9), "test": np.arange(9, 12)}
CODES = [1] * 6 + [2] * 3 + [3] * 3


def write_csv(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        np.savetxt(file, np.atleast_2d(table), fmt="%s", delimiter=",")


def write_ogb(root: Path, name: str, split: str, labels: np.ndarray) -> Path:
    folder = root / name.replace("-", "_")
    write_csv(folder / "raw" / "edge.csv.gz", ARCS.T)
    write_csv(folder / "raw" / "node-label.csv.gz", labels)
    write_csv(folder / "raw" / "num-node-list.csv.gz", np.array([[NODES]]))
    write_csv(folder / "raw" / "num-edge-list.csv.gz", np.array([[ARCS.shape[1]]]))
    for part, nodes in SPLIT.items():
        write_csv(folder / "split" / split / f"{part}.csv.gz", nodes[:, None])
    return folder


@pytest.mark.parametrize(
    ("name", "split", "classes"), [("ogbn-arxiv", "time", 40), ("ogbn-products", "sales_ranking", 47)]
)
def test_ogb_text_form(tmp_path: Path, name: str, split: str, classes: int) -> None:
    folder = write_ogb(tmp_path, name, split, LABELS[:, None])
    write_csv(folder / "raw" / "node-feat.csv.gz", FEATURES)
    graph = load(f"ogb:{name},root={tmp_path}")
    assert arc_set(graph) == BOTH_WAYS
    assert np.array_equal(graph.features, FEATURES)
    assert np.array_equal(graph.labels, LABELS)
    assert graph.split.tolist() == CODES
    assert (graph.num_classes, graph.task, graph.name) == (classes, "single", name)
    directed = load(f"ogb:{name},root={tmp_path},directed=true")
    assert arc_set(directed) == {(0, 1), (1, 0), (1, 2), (2, 3), (5, 4), (7, 8)}


def test_ogb_proteins_features_from_edges_and_112_tasks(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (NODES, 112))
    folder = write_ogb(tmp_path, "ogbn-proteins", "species", labels)
    edge_features = np.random.default_rng(1).random((ARCS.shape[1], 8)).astype(np.float32)
    write_csv(folder / "raw" / "edge-feat.csv.gz", edge_features)
    graph = load(f"ogb:ogbn-proteins,root={tmp_path}")
    assert (graph.task, graph.num_classes, graph.num_features) == ("multi", 112, 8)
    assert np.array_equal(graph.labels, labels)
    touching = [edge_features[np.any(node == ARCS, axis=0)] for node in (2, 4)]
    assert np.allclose(graph.features[2], touching[0].mean(axis=0))
    assert np.allclose(graph.features[4], touching[1].mean(axis=0))
    assert not graph.features[9].any()
    assert edge_means(ARCS, edge_features, NODES).shape == (NODES, 8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ogb_binary_form_with_unlabelled_nodes(tmp_path: Path, save: Any) -> None:
    folder = tmp_path / "ogbn_papers100M"
    (folder / "raw").mkdir(parents=True)
    labels = LABELS.astype(np.float32)[:, None].copy()
    labels[[2, 10]] = np.nan
    counts = {"num_nodes_list": np.array([NODES]), "num_edges_list": np.array([ARCS.shape[1]])}
    save(
        folder / "raw" / "data.npz", edge_index=ARCS, node_feat=FEATURES, node_year=LABELS[:, None], **counts
    )
    save(folder / "raw" / "node-label.npz", node_label=labels)
    for part, nodes in SPLIT.items():
        write_csv(folder / "split" / "time" / f"{part}.csv.gz", nodes[:, None])
    graph = load(f"ogb:ogbn-papers100M,root={tmp_path},scratch={tmp_path}")
    assert arc_set(graph) == BOTH_WAYS
    assert isinstance(graph.indices, np.memmap)
    assert isinstance(graph.features, np.memmap) == (save is np.savez)
    assert graph.labels.tolist() == [0, 1, -1, 3, 0, 1, 2, 3, 0, 1, -1, 3]
    assert graph.split[[2, 10]].tolist() == [0, 0]
    assert graph.num_classes == 172
    assert "2 nodes of the split have no label" in graph.notes[0]


def test_ogb_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'ogbn-arxiv'"):
        load("ogb:ogbn-arxive")
    folder = write_ogb(tmp_path, "ogbn-arxiv", "time", LABELS[:, None])
    with pytest.raises(ValueError, match=r"edge-feat\.csv\.gz: missing"):
        load(f"ogb:ogbn-arxiv,root={tmp_path}")
    features = folder / "raw" / "node-feat.csv.gz"
    write_csv(features, FEATURES)
    features.write_bytes(features.read_bytes()[:-9])
    with pytest.raises(ValueError, match=str(features)) as error:
        load(f"ogb:ogbn-arxiv,root={tmp_path}")
    assert "\n" not in str(error.value)


def test_ogb_folders_that_lie(tmp_path: Path) -> None:
    folder = write_ogb(tmp_path, "ogbn-proteins", "species", np.ones((NODES, 112), np.int64))
    write_csv(folder / "raw" / "edge-feat.csv.gz", np.ones((ARCS.shape[1], 8)))
    assert load(f"ogb:ogbn-proteins,root={tmp_path}").num_features == 8
    for name, table, words in (
        ("raw/edge.csv.gz", ARCS.T - 1, "edge 0 names node -1"),
        ("raw/edge.csv.gz", ARCS.T + 10, "names node 18"),
        ("raw/edge.csv.gz", ARCS.T[:, :1], r"shape \(1, 7\)"),
        ("raw/edge-feat.csv.gz", np.ones((3, 8)), "features of 3 edges for 7"),
        ("raw/node-label.csv.gz", np.full((NODES, 112), 7), "row 0 has an entry that is neither 0 nor 1"),
        ("raw/node-label.csv.gz", np.ones((NODES, 5)), "num_classes is 112, but multi-hot labels have 5"),
        ("raw/num-node-list.csv.gz", np.array([[13]]), "12 labels for 13 nodes"),
        ("split/species/train.csv.gz", np.array([[-3]]), "train_idx names node -3"),
        ("split/species/train.csv.gz", np.array([["1e30"]]), "not a whole csv.gz file"),
    ):
        whole = (folder / name).read_bytes()
        write_csv(folder / name, table)
        with pytest.raises(UserError, match=words):
            load(f"ogb:ogbn-proteins,root={tmp_path}")
        broken = bytearray(whole)
        broken[-10] ^= 0xFF  # in the last of the compressed content
        (folder / name).write_bytes(broken)
        with pytest.raises(UserError, match="not a whole csv"):
            load(f"ogb:ogbn-proteins,root={tmp_path}")
        (folder / name).write_bytes(whole)


def test_ogb_binary_folder_without_an_array(tmp_path: Path) -> None:
    raw = tmp_path / "ogbn_papers100M" / "raw"
    raw.mkdir(parents=True)
    np.savez(raw / "data.npz", edge_index=ARCS)
    np.savez(raw / "node-label.npz", node_label=LABELS)
    with pytest.raises(UserError, match="no array 'node_feat'"):
        load(f"ogb:ogbn-papers100M,root={tmp_path}")


def test_ogb_download_unpacks_where_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is called arxiv.zip and unpacks to arxiv/; ogb's own functions fetch it."""
    made = write_ogb(tmp_path / "made", "arxiv", "time", LABELS[:, None])
    write_csv(made / "raw" / "node-feat.csv.gz", FEATURES)
    asked: list[str] = []

    def fetch(address: str, folder: str, log: bool) -> str:
        import shutil

        asked.append(address)
        return shutil.make_archive(f"{folder}/arxiv", "zip", tmp_path / "made", "arxiv")

    with quiet_ogb() as url_tools:
        monkeypatch.setattr(url_tools, "download_url", fetch)
    graph = load(f"ogb:ogbn-arxiv,root={tmp_path}/root")
    assert asked[0].endswith("/arxiv.zip")
    assert arc_set(graph) == BOTH_WAYS
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["ogbn_arxiv"]


def test_ogb_without_a_network_says_where_the_folder_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route")

    with quiet_ogb() as url_tools:
        monkeypatch.setattr(url_tools, "download_url", fail)
    with pytest.raises(ValueError, match=r"ogbn_arxiv/raw: not there, and it cannot be fetched \(no route\)"):
        load(f"ogb:ogbn-arxiv,root={tmp_path}")


def test_ogb_is_imported_without_asking_the_network() -> None:
    before = sys.modules.get("outdated")
    with quiet_ogb():
        assert sys.modules["outdated"] is None
    assert sys.modules.get("outdated") is before


@pytest.fixture
def dgl() -> Any:
    return pytest.importorskip("dgl", reason="dgl is not installed here")


@pytest.fixture
def pyg() -> Any:
    return pytest.importorskip("torch_geometric", reason="torch_geometric is not installed here")


@pytest.fixture
def sample() -> Graph:
    rng = np.random.default_rng(8)
    return random_graph(rng, random_arcs(rng, 30, 120), 30)


def assert_same(first: Graph, second: Graph) -> None:
    assert arc_set(first) == arc_set(second)
    for name in ("features", "labels", "split"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert (first.task, first.num_classes) == (second.task, second.num_classes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("multi", [False, True])
def test_to_dgl_and_back(dgl: Any, multi: bool) -> None:
    rng = np.random.default_rng(8)
    graph = random_graph(rng, random_arcs(rng, 30, 120), 30, multi=multi)
    made = graph.to_dgl()
    assert made.num_nodes() == 30
    assert made.num_edges() == graph.num_arcs
    assert_same(Graph.from_dgl(made), graph)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("multi", [False, True])
def test_to_pyg_and_back(pyg: Any, multi: bool) -> None:
    rng = np.random.default_rng(8)
    graph = random_graph(rng, random_arcs(rng, 30, 120), 30, multi=multi)
    assert_same(Graph.from_pyg(graph.to_pyg()), graph)


@pytest.mark.filterwarnings("ignore")
def test_directed_arcs_keep_their_direction(dgl: Any, pyg: Any) -> None:
    rng = np.random.default_rng(2)
    graph = random_graph(rng, random_arcs(rng, 30, 60), 30, directed=True)
    assert_same(Graph.from_dgl(graph.to_dgl(), directed=True), graph)
    assert_same(Graph.from_pyg(graph.to_pyg(), directed=True), graph)
    assert arc_set(Graph.from_pyg(graph.to_pyg())) != arc_set(graph)  # symmetrised unless told otherwise


@pytest.mark.filterwarnings("ignore")
def test_objects_without_features_labels_or_masks(dgl: Any, sample: Graph) -> None:
    made = sample.to_dgl()
    del made.ndata["feat"]
    with pytest.raises(ValueError, match=r"features=degree.*features=random:64"):
        Graph.from_dgl(made)
    assert Graph.from_dgl(made, features="random:8").num_features == 8
    with pytest.raises(ValueError, match="no node features under"):
        Graph.from_dgl(made, features="sparse")
    del made.ndata["val_mask"]
    without = Graph.from_dgl(made, features="degree")
    assert np.array_equal(without.split, np.where(sample.split == 2, 0, sample.split))
    assert "no validation nodes in the source: train with --val-share" in without.notes[0]
    del made.ndata["train_mask"]
    assert "60/20/20" in Graph.from_dgl(made, features="degree").notes[0]
    del made.ndata["label"]
    with pytest.raises(ValueError, match="no labels; they are looked for under label, labels, y"):
        Graph.from_dgl(made)
    with pytest.raises(ValueError, match="2 node types"):
        Graph.from_dgl(dgl.heterograph({("a", "to", "b"): ([0], [0])}))


def dgl_folder(root: Path, name: str) -> Path:
    """Where DGL keeps the unpacked files of a data set: its name and a hash of the address they come from."""
    address = optional("dgl.data.utils")._get_dgl_url(f"dataset/{name}.zip")
    return root / f"{name}_{hashlib.sha1(address.encode()).hexdigest()[:8]}"


def write_saint(folder: Path) -> None:
    """The form of yelp and flickr (GraphSAINT)."""
    folder.mkdir(parents=True)
    adjacency = sp.csr_matrix((np.ones(ARCS.shape[1]), (ARCS[0], ARCS[1])), shape=(NODES, NODES))
    sp.save_npz(folder / "adj_full.npz", adjacency)
    np.save(folder / "feats.npy", FEATURES.astype(np.float64))
    (folder / "class_map.json").write_text(
        json.dumps({str(node): int(LABELS[node]) for node in range(NODES)})
    )
    lists = {"tr": SPLIT["train"].tolist(), "va": SPLIT["valid"].tolist(), "te": SPLIT["test"].tolist()}
    (folder / "role.json").write_text(json.dumps(lists))


@pytest.mark.filterwarnings("ignore")
def test_dgl_flickr_and_yelp(dgl: Any, tmp_path: Path) -> None:
    write_saint(dgl_folder(tmp_path, "flickr"))
    graph = load(f"dgl:flickr,root={tmp_path}")
    assert arc_set(graph) == BOTH_WAYS
    assert graph.split.tolist() == CODES
    assert np.array_equal(graph.features, FEATURES)
    write_saint(dgl_folder(tmp_path, "yelp"))
    tasks = np.random.default_rng(0).integers(0, 2, (NODES, 100))
    (dgl_folder(tmp_path, "yelp") / "class_map.json").write_text(
        json.dumps({str(n): tasks[n].tolist() for n in range(NODES)})
    )
    yelp = load(f"dgl:yelp,root={tmp_path}")
    assert (yelp.task, yelp.num_classes) == ("multi", 100)
    train = yelp.features[yelp.split == 1]
    assert np.allclose(train.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(train.std(axis=0), 1, atol=1e-6)
    plain = load(f"dgl:yelp,root={tmp_path},standardise=false")
    assert np.array_equal(plain.features, FEATURES)


@pytest.mark.filterwarnings("ignore")
def test_dgl_reddit(dgl: Any, tmp_path: Path) -> None:
    folder = dgl_folder(tmp_path, "reddit")
    folder.mkdir()
    adjacency = sp.coo_matrix((np.ones(ARCS.shape[1]), (ARCS[0], ARCS[1])), shape=(NODES, NODES))
    sp.save_npz(folder / "reddit_graph.npz", adjacency)
    np.savez(folder / "reddit_data.npz", feature=FEATURES, label=LABELS, node_types=np.array(CODES))
    graph = load(f"dgl:reddit,root={tmp_path}")  # DGL renumbers its nodes
    assert graph.num_arcs == len(BOTH_WAYS)
    assert sorted(map(tuple, graph.features.tolist())) == sorted(map(tuple, FEATURES.tolist()))
    assert np.bincount(graph.split).tolist() == [0, 6, 3, 3]
    assert np.array_equal(graph.labels, LABELS[(graph.features[:, 0] / 3).astype(int)])


@pytest.mark.filterwarnings("ignore")
def test_dgl_parts_are_read_as_they_are(dgl: Any, tmp_path: Path, sample: Graph) -> None:
    torch = optional("torch")
    torch.manual_seed(0)
    made = sample.to_dgl()
    made.ndata["original"] = torch.arange(30)
    dgl.distributed.partition_graph(made, "toy", 3, str(tmp_path / "theirs"), part_method="random")
    source = f"dgl:{tmp_path}/theirs/toy.json"
    graph = load(source)
    assert graph.num_arcs == sample.num_arcs
    assert sorted(map(tuple, graph.features.tolist())) == sorted(map(tuple, sample.features.tolist()))
    degrees = (np.diff(graph.indptr), np.diff(sample.indptr))
    assert sorted(degrees[0].tolist()) == sorted(degrees[1].tolist())
    described = json.loads((tmp_path / "theirs" / "toy.json").read_text())
    manifest = partition_graph(source, parts=3, out=tmp_path / "ours", method="source")
    assert list(manifest.part_nodes) == [last - first for first, last in described["node_map"]["_N"]]
    assert read_manifest(tmp_path / "ours").method == "source"
    with pytest.raises(ValueError, match=r"part 2 of node .* is out of range with 2 parts"):
        partition_graph(source, parts=2, out=tmp_path / "other", method="source")
    with pytest.raises(ValueError, match="did not come in parts"):
        partition_graph(sample, parts=2, out=tmp_path / "other", method="source")
    (tmp_path / "theirs" / "part1" / "graph.dgl").unlink()
    with pytest.raises(ValueError, match=r"part1/graph\.dgl: missing"):
        load(source)
    (tmp_path / "theirs" / "toy.json").write_text("{}")
    with pytest.raises(ValueError, match="not a description of DGL parts"):
        load(source)


DESCRIPTION = {
    "graph_name": "toy\x1b[31m",
    "num_parts": 1,
    "num_nodes": NODES,
    "part-0": {"part_graph": "part0/graph.dgl", "node_feats": "part0/node_feat.dgl"},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_nodes": "many"}, "not a description of DGL parts"),
        ({"num_nodes": 1e400}, "not a description of DGL parts"),
        ({"num_nodes": -3}, "-3 nodes in 1 parts"),
        ({"num_nodes": 10**15}, "num_nodes cannot be right"),
        ({"num_parts": 10**12}, "not a description of DGL parts .*'part-1'"),
        ({"num_parts": 0}, "12 nodes in 0 parts"),
        ({"part-0": ["a"]}, "not a description of DGL parts"),
        ({"part-0": {"part_graph": 3}}, "not a description of DGL parts"),
        ({"ntypes": {"a": 0, "b": 1}}, "2 node types"),
        ({"ntypes": 3}, "not a description of DGL parts"),
        ({}, r"part0/graph\.dgl: missing"),
    ],
)
def test_descriptions_of_dgl_parts_that_lie(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    (tmp_path / "toy.json").write_text(json.dumps({**DESCRIPTION, **changes}))
    with pytest.raises(UserError, match=words):
        load(f"dgl:{tmp_path}/toy.json")
    for text in ("[" * 100_000, "[]", "null", "{"):
        (tmp_path / "toy.json").write_text(text)
        with pytest.raises(UserError, match="not a description of DGL parts"):
            load(f"dgl:{tmp_path}/toy.json")


@pytest.mark.filterwarnings("ignore")
def test_dgl_parts_that_lie(dgl: Any, tmp_path: Path) -> None:
    torch, saved = optional("torch"), optional("dgl.data.utils")
    (tmp_path / "toy.json").write_text(json.dumps(DESCRIPTION))
    (tmp_path / "part0").mkdir()
    ids = torch.arange(NODES)

    def write(**changes: Any) -> None:
        whole = {
            "_ID": ids,
            "inner_node": torch.ones(NODES),
            "feat": torch.from_numpy(FEATURES),
            "label": torch.from_numpy(LABELS),
            **changes,
        }
        part = dgl.graph(tuple(torch.from_numpy(end) for end in ARCS), num_nodes=NODES)
        part.edata["inner_edge"] = torch.ones(ARCS.shape[1])
        part.ndata.update({key: whole[key] for key in ("_ID", "inner_node") if whole[key] is not None})
        saved.save_graphs(str(tmp_path / "part0" / "graph.dgl"), [part])
        tables = {f"_N/{key}": whole[key] for key in ("feat", "label") if whole[key] is not None}
        saved.save_tensors(str(tmp_path / "part0" / "node_feat.dgl"), tables)

    write()
    graph = load(f"dgl:{tmp_path}/toy.json")
    assert arc_set(graph) == BOTH_WAYS
    assert graph.name == r"toy\x1b[31m"
    for changes, words in (
        ({"_ID": ids - 1}, "_ID names node -1"),
        ({"_ID": ids + 1}, "_ID names node 12, but there are 12 nodes"),
        ({"_ID": ids * 0.5}, "_ID has dtype float32"),
        ({"_ID": ids // 2}, "node 6 of 12 is in no part"),
        ({"_ID": None}, "DGL cannot read it"),
        ({"inner_node": ids > 3}, r"feat has shape \(12, 3\) for 8 nodes"),
        ({"label": None}, "no labels"),
    ):
        write(**changes)
        with pytest.raises(UserError, match=words):
            load(f"dgl:{tmp_path}/toy.json")
    write()
    (tmp_path / "part0" / "graph.dgl").write_bytes(b"text")
    with pytest.raises(UserError, match=r"graph\.dgl: DGL cannot read it"):
        load(f"dgl:{tmp_path}/toy.json")


@pytest.mark.filterwarnings("ignore")
def test_pyg_flickr(pyg: Any, tmp_path: Path) -> None:
    write_saint(tmp_path / "raw")
    graph = load(f"pyg:Flickr,root={tmp_path}")
    assert arc_set(graph) == BOTH_WAYS
    assert np.array_equal(graph.features, FEATURES)
    assert np.array_equal(graph.labels, LABELS)
    assert graph.split.tolist() == CODES


@pytest.mark.filterwarnings("ignore")
def test_library_mistakes(dgl: Any, pyg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="did you mean 'reddit'"):
        load("dgl:redit")
    with pytest.raises(ValueError, match="did you mean 'Planetoid'"):
        load("pyg:Planetiod/Cora")
    with pytest.raises(ValueError, match="write pyg:Planetoid/NAME"):
        load("pyg:Planetoid")
    with pytest.raises(ValueError, match="no such file"):
        load(f"dgl:{tmp_path}/toy.json")
    dgl_folder(tmp_path, "flickr").mkdir()
    with pytest.raises(ValueError, match="DGL could not load it") as error:
        load(f"dgl:flickr,root={tmp_path}")
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "torch_geometric.datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'bnsgcn\[pyg\]'"):
        load("pyg:Planetoid/Cora")
