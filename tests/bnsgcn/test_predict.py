"""Predictions of new nodes and of some nodes alone are those of one full forward over the whole graph."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.out.best_model import best_model
from bnsgcn.out.plain import PlainGNN
from bnsgcn.predict import (
    Predictor,
    check_graph,
    layers_to_run,
    predict_run,
    read_nodes,
    write_parts_like,
)
from bnsgcn.record.parquet_rows import ParquetRows
from bnsgcn.run import train_worker
from partition.build import partition_graph
from partition.errors import UserError
from partition.features import dense_features
from partition.graph import Graph
from partition.grown import cut_like, grown_assignment, is_grown
from partition.sources import load
from partition.store import open_part, read_manifest
from tests.bnsgcn.dense_reference import DenseRun
from tests.bnsgcn.out.trained import MODELS, shown
from tests.multiprocess import run_ranks

NODES, HELD_OUT, FEATURES, CLASSES = 200, 20, 6, 4
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def grown_graph(nodes: int = NODES) -> Graph:
    """The first `nodes` of a graph on a ring with chords, and the arcs among them."""
    rng = np.random.default_rng(3)
    near = (np.arange(NODES)[:, None] + rng.integers(1, 6, (NODES, 3))) % NODES
    arcs = np.stack([np.repeat(np.arange(NODES), 3), near.ravel()])
    labels = rng.integers(0, CLASSES, NODES)
    features = rng.standard_normal((NODES, FEATURES)).astype(np.float32)
    return Graph.from_arrays(
        arcs[:, (arcs < nodes).all(0)],
        features=features[:nodes],
        labels=labels[:nodes],
        num_classes=CLASSES,
        name="ring",
    )


def trained_on_old(folder: Path, parts: int, **options: Any) -> Path:
    """A run on the graph without the nodes held out; its parts are beside it."""
    partition_graph(grown_graph(NODES - HELD_OUT), parts=parts, out=folder / "old", method="metis")
    chosen: dict[str, Any] = {"layers": 3, "hidden": 8, "heads": 2, "epochs": 3, "device": "cpu"} | options
    run_ranks(_train, parts, folder, folder / "old", folder / "run", TrainConfig(**chosen))
    return folder / "run"


def _train(world: World, parts: Path, run_dir: Path, config: TrainConfig) -> None:
    from bnsgcn import run
    from bnsgcn.record.run_folder import RunFolder

    trainer = run._trainer(world, open_part(parts, world.rank), config, RunFolder(run_dir), None, own={})
    if world.rank == 0:
        RunFolder(run_dir).create(config, trainer.part.manifest, parts)
    world.barrier()
    trainer.fit()


def full_forward(run_dir: Path, graph: Graph, dtype: str) -> np.ndarray:
    """Logits of all nodes by the model as a plain function of arrays: no parts, no hops."""
    best = best_model(run_dir)
    x = torch.from_numpy(np.asarray(graph.features)).to(getattr(torch, dtype))
    arrays = (torch.from_numpy(part.astype(np.int64)) for part in (graph.indptr, graph.indices))
    with torch.no_grad():
        return PlainGNN(best.model, self_loops=best.config.self_loops)(x, *arrays).numpy()


def _rows(
    world: World, parts: Path, run_dir: Path, chosen: np.ndarray | None, layers: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Places, rows and arcs computed of one rank."""
    best = best_model(run_dir)
    predictor = Predictor(world, open_part(parts, world.rank, verify=chosen is None), best, best.config)
    places, rows = predictor.exact_rows(chosen, layers)
    blocks = predictor.hop_set(chosen, layers).layers
    return places, rows.numpy(), sum(layer.inner.csr.num_arcs + layer.halo.csr.num_arcs for layer in blocks)


def predicted(
    parts: Path, run_dir: Path, tmp_path: Path, *, chosen: np.ndarray | None = None, layers: int = 3
) -> tuple[np.ndarray, int]:
    """Rows of all ranks in their places, and the arcs that were computed."""
    manifest = read_manifest(parts)
    answers = run_ranks(_rows, manifest.parts, tmp_path, parts, run_dir, chosen, layers)
    rows = np.full((manifest.num_nodes if chosen is None else chosen.size, answers[0][1].shape[1]), np.nan)
    for places, found, _ in answers:
        rows[places] = found
    return rows, sum(arcs for _, _, arcs in answers)


@pytest.mark.multi
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", MODELS[::2], ids=shown)
def test_new_nodes_get_what_one_full_forward_gives(
    options: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    """A tenth of the nodes is held out of the training graph; then all, some, and embeddings of them."""
    run_dir = trained_on_old(tmp_path, 2, dtype=dtype, **options)
    graph = grown_graph()
    cut_like(graph, tmp_path / "old", tmp_path / "new", lambda _: None)
    whole = full_forward(run_dir, graph, dtype)
    rows, arcs = predicted(tmp_path / "new", run_dir, tmp_path)
    assert np.abs(rows - whole).max() < TOLERANCE[dtype]

    few = np.array([NODES - 1, 7, NODES - HELD_OUT, 7])
    rows, fewer = predicted(tmp_path / "new", run_dir, tmp_path, chosen=few)
    assert np.abs(rows - whole[few]).max() < TOLERANCE[dtype]
    assert fewer < arcs / 2
    one_less = full_forward(run_dir, grown_graph(NODES - 1), dtype)
    assert np.abs(one_less - whole[:-1]).max() > 1e-3, "the new nodes matter to their neighbours"


@pytest.mark.multi
def test_old_nodes_keep_their_parts_and_new_ones_join_their_neighbours(tmp_path: Path) -> None:
    partition_graph(grown_graph(NODES - HELD_OUT), parts=3, out=tmp_path / "old")
    manifest, graph = read_manifest(tmp_path / "old"), grown_graph()
    part_of = grown_assignment(graph, tmp_path / "old", manifest)
    for part in range(3):
        assert (part_of[open_part(tmp_path / "old", part).node_ids] == part).all()
    assert (part_of >= 0).all()
    neighbours = part_of[graph.indices[graph.indptr[NODES - 10] : graph.indptr[NODES - 9]]]
    assert part_of[NODES - 10] in neighbours
    assert is_grown(graph, tmp_path / "old", manifest)
    shuffled = np.random.default_rng(0).permutation(NODES)
    other = Graph.from_arrays(
        shuffled[np.stack([graph.indices, np.repeat(np.arange(NODES), np.diff(graph.indptr))])],
        features=graph.features,
        labels=graph.labels,
    )
    assert not is_grown(other, tmp_path / "old", manifest)
    cut_like(other, tmp_path / "old", tmp_path / "other", lambda _: None)
    assert read_manifest(tmp_path / "other").method == "metis"


def source_of(file: Path, kind: str, nodes: int) -> str:
    """The first `nodes` of the ring as an archive, with edge weights or with few features set."""
    graph, rng = grown_graph(nodes), np.random.default_rng(4)
    targets = np.repeat(np.arange(nodes), np.diff(graph.indptr))
    arrays = {"edge_index": np.stack([graph.indices, targets]), "label": graph.labels}
    wide = sp.csr_matrix(rng.standard_normal((NODES, 150)) * (rng.random((NODES, 150)) < 0.05))[:nodes]
    if kind == "weighted":
        arrays |= {"feat": graph.features, "edge_weight": 0.2 + (graph.indices + targets) % 7}
    else:
        arrays |= {"feat_data": wide.data, "feat_indices": wide.indices, "feat_indptr": wide.indptr}
        arrays |= {"feat_shape": np.array(wide.shape)}
    np.savez(file, num_classes=CLASSES, **arrays)  # type: ignore[arg-type]
    return f"npz:{file}"


@pytest.mark.parametrize("kind", ["weighted", "sparse"])
@pytest.mark.parametrize("options", [{"model": "gcn"}, {"model": "sage", "norm": "batch"}], ids=shown)
def test_another_source_with_edge_weights_or_sparse_features(
    options: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    """Cut like the training graph; all nodes and some get what one dense forward gives."""
    partition_graph(source_of(tmp_path / "old.npz", kind, NODES - HELD_OUT), parts=1, out=tmp_path / "old")
    chosen: dict[str, Any] = {"layers": 3, "hidden": 8, "epochs": 2, "device": "cpu", "dtype": "float64"}
    config = TrainConfig(**chosen | options)
    train_worker(tmp_path / "old", tmp_path / "run", config)
    graph = load(source_of(tmp_path / "new.npz", kind, NODES))
    cut_like(graph, tmp_path / "old", tmp_path / "new", lambda _: None)
    manifest = read_manifest(tmp_path / "new")
    assert (manifest.weighted, manifest.feature_storage == "csr") == (kind == "weighted", kind == "sparse")
    best = best_model(tmp_path / "run")
    check_graph(best.manifest, graph, "new")
    filled = dataclasses.replace(graph, features=dense_features(graph.features))
    whole = DenseRun(filled, config, best.model.state_dict()).logits().numpy()
    predictor = Predictor(World.single(), open_part(tmp_path / "new", 0), best, best.config)
    for nodes in (None, np.array([NODES - 1, 7, NODES - HELD_OUT, 7])):
        places, rows = predictor.exact_rows(nodes, 3)
        found = np.full((NODES if nodes is None else nodes.size, CLASSES), np.nan)
        found[places] = rows.numpy()
        assert np.abs(found - (whole if nodes is None else whole[nodes])).max() < TOLERANCE["float64"]
    if kind == "weighted":
        bare = dataclasses.replace(filled, adjacency=dataclasses.replace(graph.adjacency, weights=None))
        other = DenseRun(bare, config, best.model.state_dict()).logits().numpy()
        assert np.abs(other - whole).max() > 1e-3, "the weights matter"
        with pytest.raises(UserError, match=r"new has no edge weights, the graph .* such as 1"):
            check_graph(best.manifest, bare, "new")


def small_run(tmp_path: Path, **options: Any) -> Path:
    partition_graph(grown_graph(), parts=1, out=tmp_path / "parts")
    chosen: dict[str, Any] = {"layers": 3, "hidden": 8, "heads": 2, "epochs": 2, "device": "cpu"}
    train_worker(tmp_path / "parts", tmp_path / "run", TrainConfig(**chosen | options))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("linear_layers", "more"), [(0, {}), (2, {}), (1, {"jumping_knowledge": "cat", "residual": True})]
)
def test_embeddings_are_what_the_next_layer_reads(
    linear_layers: int, more: dict[str, Any], tmp_path: Path
) -> None:
    """-2 put through the last layer gives the logits; -1 and 2 are the logits; 0 is the first layer's."""
    run_dir = small_run(tmp_path, model="gcn", linear_layers=linear_layers, **more)
    found = {}
    for layer in (None, -1, 2, -2, 0):
        out = tmp_path / f"{layer}.npy"
        assert predict_run(run_dir, out, embeddings=layer) == (
            NODES,
            CLASSES if layer in (None, -1, 2) else 16 if layer == -2 and more else 8,
        )
        found[layer] = np.load(out)
    assert np.array_equal(found[None], found[-1])
    assert np.array_equal(found[None], found[2])
    model = best_model(run_dir).model
    seen: list[torch.Tensor] = []
    last = [*model.convs, *model.linears][-1]
    last.register_forward_hook(lambda _, given, __: seen.append(given[1 - bool(linear_layers)]))
    part = open_part(tmp_path / "parts", 0)
    best = dataclasses.replace(best_model(run_dir), model=model)
    Predictor(World.single(), part, best, best.config).exact_rows(None, 3)
    assert np.allclose(seen[0].numpy(), found[-2][part.node_ids], atol=1e-6)
    assert not np.allclose(found[0], found[-2][:, -8:], atol=1e-2)


def test_new_nodes_are_scaled_by_the_statistics_of_the_training(tmp_path: Path) -> None:
    trained = grown_graph(NODES - HELD_OUT).standardised()
    partition_graph(trained, parts=1, out=tmp_path / "parts")
    train_worker(
        tmp_path / "parts", tmp_path / "run", TrainConfig(layers=2, hidden=8, epochs=2, device="cpu")
    )
    write_parts_like(tmp_path / "run", grown_graph(), tmp_path / "new", lambda _: None)
    part, scaling = open_part(tmp_path / "new", 0), trained.scaling
    assert scaling is not None
    expected = (grown_graph().features - np.array(scaling.mean)) / np.array(scaling.deviation)
    assert np.allclose(part.features, expected[part.node_ids], atol=1e-6)
    assert predict_run(tmp_path / "run", tmp_path / "out.npy", parts_dir=tmp_path / "new") == (NODES, CLASSES)
    for graph, said in ((grown_graph().standardised(), "by its own"), (grown_graph(), "use features=stand")):
        folder = tmp_path / said
        partition_graph(graph, parts=1, out=folder)
        with pytest.raises(UserError, match=said):
            predict_run(tmp_path / "run", tmp_path / "no.npy", parts_dir=folder)


def test_features_of_other_nodes_are_not_read(tmp_path: Path) -> None:
    """Those beyond the neighbourhood are spoiled: a full prediction says so, that of some is as before."""
    run_dir = small_run(tmp_path, layers=2)
    predict_run(run_dir, tmp_path / "before.npy")
    file = tmp_path / "parts" / "part_00000" / "features.npy"
    features, node_ids = np.load(file, mmap_mode="r+"), open_part(tmp_path / "parts", 0).node_ids
    features[np.flatnonzero((node_ids > 60) & (node_ids < 140))] = np.nan
    features.flush()
    predict_run(run_dir, tmp_path / "some.npy", nodes="0-9,190")
    before = np.load(tmp_path / "before.npy")[[*range(10), 190]]
    assert np.allclose(np.load(tmp_path / "some.npy"), before, atol=1e-6)
    with pytest.raises(UserError, match="truncated or altered"):
        predict_run(run_dir, tmp_path / "all.npy")


def test_a_few_nodes_take_nothing_of_the_whole_graph(tmp_path: Path) -> None:
    """No self loops put into all rows, no transposes: those are for many rows and for training."""
    best, part = best_model(small_run(tmp_path, layers=2)), open_part(tmp_path / "parts", 0)
    predictor = Predictor(World.single(), part, best, best.config)
    few = predictor.exact_rows(np.arange(5), 2)[1]
    assert "whole" not in vars(predictor._sets._whole.inner)
    hops = predictor.hop_set(np.arange(5), 2)
    assert not any(
        "transposed" in vars(block) for layer in hops.layers for block in (layer.inner, layer.halo)
    )
    places, rows = predictor.exact_rows(None, 2)
    assert "whole" in vars(predictor._sets._whole.inner)
    assert torch.allclose(rows[np.argsort(places)[:5]], few, atol=1e-6)


def test_parquet_has_a_row_a_node(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run_dir = small_run(tmp_path)
    predict_run(run_dir, tmp_path / "all.npy")
    logits = np.load(tmp_path / "all.npy")
    predict_run(run_dir, tmp_path / "all.parquet")
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["node", "logits"]
    assert table["node"].to_pylist() == list(range(NODES))
    assert np.array_equal(np.stack(table["logits"].to_numpy()), logits)
    predict_run(run_dir, tmp_path / "some.parquet", nodes="9,3", embeddings=-2)
    assert parquet.read_table(tmp_path / "some.parquet")["node"].to_pylist() == [9, 3]
    assert parquet.read_table(tmp_path / "some.parquet").column_names == ["node", "embedding"]


def test_ranks_write_parquet_side_by_side(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    wanted = np.arange(12, dtype=np.float32).reshape(6, 2)
    files = [ParquetRows(tmp_path / "rows.parquet", rank, "logits", None) for rank in range(2)]
    files[0].create(6, 2)
    for file, places in zip(files, ([4, 0, 5], [1, 3, 2]), strict=True):
        file.write(np.array(places), wanted[places])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet.partial"]
    files[0].finish()
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table["node"].to_pylist() == [0, 4, 5, 1, 2, 3]
    assert np.array_equal(np.stack(table["logits"].to_numpy()), wanted[[0, 4, 5, 1, 2, 3]])


def test_nodes_are_read_and_mistakes_are_one_line(tmp_path: Path) -> None:
    assert read_nodes("3,17, 20-22", 30).tolist() == [3, 17, 20, 21, 22]
    np.save(tmp_path / "mask.npy", np.arange(30) % 10 == 0)
    assert read_nodes(str(tmp_path / "mask.npy"), 30).tolist() == [0, 10, 20]
    np.save(tmp_path / "wide.npy", np.zeros((2, 2)))
    np.save(tmp_path / "none.npy", np.zeros(0, np.int64))
    for text, said in {
        "3,30,-1": "'-1' is no node id; list them as 3,17,20-29, or name a .npy file",
        "3,30,31": "2 of 3 are out of range, the first is 30; the graph has 30 nodes, 0 to 29",
        "9-3": "9-3 is no range of node ids",
        "0-99999999999999": "is no range of node ids",
        "": "'' is no node id",
        f"{tmp_path}/absent.npy": "no such file",
        f"{tmp_path}/wide.npy": r"float64 of shape \[2, 2\]; give node ids as int64",
        f"{tmp_path}/none.npy": "0 nodes; name at least 1",
    }.items():
        with pytest.raises(UserError, match=said):
            read_nodes(text, 30)


def test_layers_and_graphs_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    config = TrainConfig(layers=3)
    assert [layers_to_run(config, layer) for layer in (None, -1, 2, -2, 0, -3)] == [3, 3, 3, 2, 1, 1]
    for layer in (3, -4):
        with pytest.raises(
            UserError, match=f"--embeddings {layer}: the model has 3 layers; use 0 to 2, or -3 to"
        ):
            layers_to_run(config, layer)
    partition_graph(grown_graph(), parts=1, out=tmp_path / "parts")
    trained = read_manifest(tmp_path / "parts")
    narrow = dataclasses.replace(trained, num_features=5)
    with pytest.raises(
        UserError, match="other has 5 features a node, the run was trained on 6; make the same"
    ):
        check_graph(trained, narrow, "other")
    with pytest.raises(
        UserError, match="other is directed, the run was trained on an undirected graph; leave out"
    ):
        check_graph(trained, dataclasses.replace(trained, directed=True), "other")
    with pytest.raises(UserError, match=r"other has edge weights, the graph .* edge_weights=ignore"):
        check_graph(trained, dataclasses.replace(trained, weighted=True), "other")
