"""SOURCE strings, the synthetic generator and the real graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partition.sources import load, parse
from tests.partition.graphs import arc_set


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("npx:graph.npz", "did you mean 'npz'"),
        ("synthetci", "did you mean 'synthetic'"),
        ("graph.npz", "KIND:REST"),
        ("npz:", "no file named"),
        ("npz:nowhere/graph.npz", "no folder nowhere"),
        ("npz:graph.npz,feature=degree", "did you mean 'features'"),
        ("synthetic:node=5", "did you mean 'nodes'"),
        ("synthetic:nodes=many", "nodes=many is not a whole number"),
        ("synthetic:nodes=2", "at least 5"),
        ("synthetic:nodes=100,degree=90", "use at most 49"),
        ("synthetic:nodes=100,communities=200", "use at most 100"),
        ("synthetic:train=0.9,val=0.1", "leave no test nodes"),
        ("synthetic:between=2", "no share"),
        ("synthetic:big", "not KEY=VALUE"),
        ("synthetic:seed=-1", "seed is -1; a seed lies between 0 and"),
        ("synthetic:seed=99999999999999999999", "seed is 99999999999999999999"),
        ("synthetic:between=nan", "between=nan is not a finite number"),
        ("synthetic:spread=inf", "spread=inf is not a finite number"),
        ("synthetic:spread=1e300", r"spread=1e\+300 must lie in \[0, 1e\+06\]"),
        ("synthetic:nodes=1000000000000", "GB, but the memory of this machine is"),
        ("npz:" + "a" * 5000, "names no file"),
        ("npz:~nobody-here/graph.npz", "names no file"),
    ],
)
def test_bad_source(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(source)


def test_grammar() -> None:
    spec = parse("npz:a,b/c.npz,features=random:8,directed=true")
    assert (spec.kind, spec.target) == ("npz", "a,b/c.npz")
    assert spec.options == {"features": "random:8", "directed": "true"}
    assert parse("synthetic").options == {}
    assert parse("synthetic:nodes=7,seed=2").options == {"nodes": "7", "seed": "2"}


SMALL = "synthetic:nodes=3000,degree=12,features=8,classes=5,communities=20"


def test_synthetic_is_seeded() -> None:
    first, again, other = load(SMALL), load(SMALL), load(SMALL + ",seed=1")
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()


def test_synthetic_has_what_was_asked_for() -> None:
    graph = load(SMALL)
    assert (graph.num_nodes, graph.num_arcs, graph.num_features, graph.num_classes) == (3000, 36000, 8, 5)
    assert np.bincount(graph.split, minlength=4).tolist() == [0, 1800, 600, 600]
    degree = graph.in_degree()
    assert degree.max() > 5 * np.median(degree)  # a heavy tail
    same_label = [graph.labels[a] == graph.labels[b] for a, b in arc_set(graph)]
    assert 0.8 < np.mean(same_label) < 0.97  # communities are planted, and not everything is
    assert np.mean(graph.labels[:, None] == np.arange(5)) == pytest.approx(0.2)
    centroids = np.stack([graph.features[graph.labels == label].mean(0) for label in range(5)])
    assert np.linalg.norm(centroids - centroids.mean(0), axis=1).min() > 0.1


def test_synthetic_too_dense_for_its_communities() -> None:
    assert load("synthetic:nodes=200,degree=90,communities=50").num_arcs == 18000


def test_real_graphs_have_their_published_sizes(real_graphs: Path) -> None:
    assert load(f"npz:{real_graphs}/cora.npz").num_arcs == 2 * 5278
    citeseer = load(f"npz:{real_graphs}/citeseer.npz")
    assert (citeseer.num_nodes, citeseer.num_arcs, citeseer.num_features) == (3327, 2 * 4552, 3703)
    assert load(f"npz:{real_graphs}/amazon-computers.npz").num_arcs == 2 * 245_861
    assert load(f"npz:{real_graphs}/deezer-hu.npz,features=degree").num_classes == 84
    debian = load(f"npz:{real_graphs}/debian12-deps.npz,label=label_multi")
    assert (debian.task, debian.num_classes, int((debian.split > 0).sum())) == ("multi", 100, 30_167)
