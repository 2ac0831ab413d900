"""Scaled features: the statistics of the training nodes, kept with the parts and applied to others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from partition.assign import Recipe
from partition.build import partition_graph
from partition.errors import UserError
from partition.features import dense_features
from partition.graph import TRAIN, Graph
from partition.grown import scaled_like
from partition.manifest import Manifest, contradiction
from partition.reassembled import graph_of_parts, repartition
from partition.scaling import Scaling
from partition.sources import load
from tests.partition.graphs import random_graph

ARCS = np.stack([np.arange(40), (np.arange(40) + 1) % 40])


def graph(*, sparse: bool = False) -> Graph:
    made = random_graph(np.random.default_rng(0), ARCS, 40, sparse=sparse)
    table = dense_features(made.features) * [3, 0.1, 0] + [2, 0, 7]
    return dataclasses.replace(
        made, features=sp.csr_matrix(table, dtype=np.float32) if sparse else table.astype(np.float32)
    )


@pytest.mark.parametrize("sparse", [False, True])
def test_columns_have_mean_0_and_variance_1_over_the_training_nodes(sparse: bool) -> None:
    made = graph(sparse=sparse).standardised()
    train = made.features[made.split == TRAIN]
    assert np.allclose(train.mean(0), 0, atol=1e-6)
    assert np.allclose(train.std(0), [1, 1, 0], atol=1e-5)  # the constant column stays constant
    assert not np.allclose(made.features.std(0)[:2], 1, atol=1e-5)  # the others' rows had no part in it
    assert np.array_equal(made.features, graph().standardised().features)


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_sum_to_one(sparse: bool) -> None:
    made = graph(sparse=sparse)
    rows = made.scaled("row")
    assert sp.issparse(rows.features) == sparse
    assert np.allclose(np.abs(dense_features(rows.features)).sum(1), 1)
    zeros = dataclasses.replace(made, features=np.zeros((40, 3), np.float32))
    assert not zeros.scaled("row").features.any()


def test_parts_remember_the_statistics_and_hand_them_on(tmp_path: Path) -> None:
    made = graph().standardised()
    manifest = partition_graph(made, parts=2, out=tmp_path / "parts", method="random")
    assert Scaling.from_json(manifest.feature_scaling) == made.scaling
    again = graph_of_parts(tmp_path / "parts", print)
    assert again.scaling == made.scaling
    recipe = Recipe(parts=3, method="random")
    built = repartition(tmp_path / "parts", recipe, out=tmp_path / "three", progress=print)
    assert built.manifest.feature_scaling == manifest.feature_scaling
    plain = partition_graph(graph(), parts=2, out=tmp_path / "plain", method="random")
    assert "feature_scaling" not in plain.to_text()


def test_other_graphs_are_scaled_by_the_training_s_statistics() -> None:
    trained, other = graph().standardised(), random_graph(np.random.default_rng(1), ARCS, 40)
    assert trained.scaling is not None
    scaled = scaled_like(other, trained.scaling, "other")
    mean, deviation = np.array(trained.scaling.mean), np.array(trained.scaling.deviation)
    assert np.allclose(scaled.features, (other.features - mean) / deviation, atol=1e-6)
    assert scaled_like(scaled, trained.scaling, "other") is scaled
    for given, like, said in (
        (other.standardised(), trained.scaling, "by its own training nodes"),
        (other.scaled("row"), trained.scaling, "use features=standardise, or leave it out"),
        (other.scaled("row"), None, "leave features=row out"),
    ):
        with pytest.raises(UserError, match=said):
            scaled_like(given, like, "other")


def test_a_forged_entry_is_one_line(tmp_path: Path) -> None:
    found = partition_graph(graph().standardised(), parts=1, out=tmp_path / "parts", method="random")
    good = found.feature_scaling
    assert not _wrong(found, good)
    for forged in (
        {"kind": "twice"},
        good | {"more": 1},
        good | {"mean": [0.0]},
        good | {"deviation": [1.0, 0.0, 1.0]},
        good | {"mean": [0.0, float("nan"), 0.0]},
        good | {"mean": "abc"},
        {"kind": "row", "mean": [1.0], "deviation": []},
    ):
        assert "feature_scaling" in _wrong(found, forged)


def _wrong(manifest: Manifest, stored: dict[str, object]) -> str:
    return contradiction(dataclasses.asdict(dataclasses.replace(manifest, feature_scaling=stored)))


def test_every_source_takes_the_options(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(1, 4, (3, 40)).astype(np.uint8)
    made = graph()
    np.savez(
        tmp_path / "g.npz", edge_index=ARCS, feat=made.features, label=made.labels, split_masks=masks,
        train_idx=np.arange(9), test_idx=np.arange(9, 20),
    )  # fmt: skip
    source = f"npz:{tmp_path}/g.npz"
    for number in range(3):
        assert np.array_equal(load(f"{source},split={number}").split, masks[number])
    first, second = (load(f"{source},split=random,split_seed={seed}").split for seed in (1, 2))
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [0, 24, 8, 8]
    assert not np.array_equal(first, second)
    late = load(f"{source},split=2,features=standardise")
    assert late.features[masks[2] == TRAIN].mean(0) == pytest.approx(0, abs=1e-6)
    assert load(f"{source},features=row+sparse").feature_storage == "csr"
    assert load("synthetic:nodes=50,features=8+row").features.shape == (50, 8)
    assert load("synthetic:nodes=50,features=standardise,split=random").scaling is not None
    large = load("synthetic:nodes=2000,split=planetoid,split_seed=4")
    assert np.bincount(large.split).tolist() == [300, 200, 500, 1000]
    assert np.bincount(large.labels[large.split == TRAIN]).tolist() == [20] * 10


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("synthetic:split=3", "split=3 is unknown; use split=random or split=planetoid"),
        ("synthetic:nodes=300,split=planetoid", "are left; use split=random"),
        ("synthetic:features=row+standardise", "asks for two of a kind"),
        ("synthetic:split=random,split_seed=-1", "split_seed=-1 is not a whole number"),
    ],
)
def test_options_that_do_not_fit_are_one_line(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(source)
