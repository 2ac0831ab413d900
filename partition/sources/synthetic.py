"""Planted communities with power-law degrees, features = class centroid + noise; seeded.

    synthetic[:nodes=20000,degree=20,features=64,classes=10,communities=200,seed=0,
               between=0.05,noise=0.05,spread=0.15,train=0.6,val=0.2]

Defaults shrink where `nodes` is small. `degree` arcs per node on average; `between` share of the edges
that ignore communities; `noise` share of random labels; `spread` distance of the class centroids in
units of the noise of the features. Node ids are shuffled: they carry no locality. The same options
give the same graph with the same NumPy major version.

Shapes:
    N nodes   K communities   M edges (half of the arcs)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from partition.adjacency import Int64Array, csr_from_keys, sorted_unique
from partition.errors import UserError
from partition.graph import TEST, TRAIN, VAL, Graph
from partition.labels import checked_seed
from partition.room import check_room
from partition.sources import SourceSpec

DEFAULTS: dict[str, float] = {
    "nodes": 20_000, "degree": 20, "features": 64, "classes": 10, "communities": 200, "seed": 0,
    "between": 0.05, "noise": 0.05, "spread": 0.15, "train": 0.6, "val": 0.2,
}  # fmt: skip
WHOLE = ("nodes", "degree", "features", "classes", "communities", "seed")
LEAST = {"nodes": 5, "degree": 1, "features": 1, "classes": 1, "communities": 1}
LARGEST_DEGREE_RATIO = 20.0
LARGEST_SPREAD = 1e6


def load(spec: SourceSpec) -> Graph:
    """Graph of the options in `spec`."""
    if spec.target:
        raise UserError(
            f"{spec.text}: '{spec.target}' is not KEY=VALUE; write for example synthetic:nodes=1000,degree=10"
        )
    spec.only(*DEFAULTS)
    nodes = spec.integer("nodes", int(DEFAULTS["nodes"]))
    defaults = {**DEFAULTS, **{key: min(DEFAULTS[key], most) for key, most in _fitting(nodes).items()}}
    chosen: dict[str, float] = {
        key: spec.integer(key, int(default)) for key, default in defaults.items() if key in WHOLE
    }
    chosen |= {key: spec.real(key, default) for key, default in defaults.items() if key not in WHOLE}
    _check(spec.text, chosen)
    return _generate(spec.text, chosen)


def _fitting(nodes: int) -> dict[str, int]:
    """Largest default of the options that a small graph cannot have in full."""
    return {
        "communities": max(1, nodes // 20),
        "classes": max(1, nodes // 5),
        "degree": max(1, (nodes - 1) // 4),
    }


def _check(text: str, chosen: dict[str, float]) -> None:
    nodes = chosen["nodes"]
    for key, low in LEAST.items():
        if chosen[key] < low:
            raise UserError(f"{text}: {key}={chosen[key]} is too small; it must be at least {low}")
    for key in ("communities", "classes"):
        if chosen[key] > nodes:
            raise UserError(f"{text}: {key}={chosen[key]} exceeds nodes={nodes}; use at most {nodes}")
    if chosen["degree"] > (nodes - 1) // 2:
        raise UserError(
            f"{text}: degree={chosen['degree']} is too large for nodes={nodes}; "
            f"use at most {(nodes - 1) // 2}"
        )
    for key in ("between", "noise", "train", "val"):
        if not 0 <= chosen[key] <= 1:
            raise UserError(f"{text}: {key}={chosen[key]} is no share; it must lie in [0, 1]")
    if chosen["train"] + chosen["val"] >= 1:
        raise UserError(
            f"{text}: train={chosen['train']} and val={chosen['val']} leave no test nodes; "
            "their sum must be < 1"
        )
    if not 0 <= chosen["spread"] <= LARGEST_SPREAD:
        raise UserError(f"{text}: spread={chosen['spread']} must lie in [0, {LARGEST_SPREAD:g}]")
    checked_seed(f"{text}: seed", int(chosen["seed"]))
    needed = int(nodes) * (4 * int(chosen["features"]) + 20 * int(chosen["degree"]))
    check_room(text, needed, "use fewer nodes, features or degree")


def _generate(text: str, chosen: dict[str, float]) -> Graph:
    nodes, classes, features = int(chosen["nodes"]), int(chosen["classes"]), int(chosen["features"])
    rng = np.random.default_rng(int(chosen["seed"]))
    community = _communities(rng, nodes, int(chosen["communities"]))
    keys = _edges(rng, community, nodes * int(chosen["degree"]) // 2, chosen["between"])
    arcs = np.empty(keys.size * 2, np.int64)
    arcs[: keys.size] = keys
    low, high = np.divmod(keys, nodes)
    np.multiply(high, nodes, out=high)
    np.add(high, low, out=arcs[keys.size :])
    del keys, low, high
    arcs.sort()
    adjacency = csr_from_keys(arcs, nodes)
    del arcs
    labels = rng.permutation(np.arange(int(chosen["communities"])) % classes)[community].astype(np.int64)
    noisy = rng.random(nodes) < chosen["noise"]
    labels[noisy] = rng.integers(0, classes, int(noisy.sum()))
    return Graph(
        adjacency=adjacency,
        features=_features(rng, labels, classes, features, chosen["spread"]),
        labels=labels,
        split=_split(rng, nodes, chosen["train"], chosen["val"]),
        num_classes=classes,
        task="single",
        name="synthetic",
        source=text,
    )


def _communities(rng: np.random.Generator, nodes: int, communities: int) -> Int64Array:
    """Community of every node [N], sizes within a factor of 3, shuffled."""
    sizes = rng.uniform(0.5, 1.5, communities)
    filled = np.repeat(np.arange(communities), np.floor(sizes / sizes.sum() * nodes).astype(np.int64))
    return rng.permutation(np.concatenate([filled, rng.integers(0, communities, nodes - filled.size)]))


def _edges(rng: np.random.Generator, community: Int64Array, wanted: int, between: float) -> Int64Array:
    """`wanted` distinct edges as ascending keys low * N + high, low < high.

    Both ends are drawn in proportion to expected degrees p(d) ~ d^-2.5, cut at 20 times the smallest;
    the second end within the community of the first, but for the share `between`. A graph too dense
    for that many distinct edges inside its communities gets the rest between them.
    """
    nodes = community.size
    order = np.argsort(community, kind="stable")
    cumulative = np.cumsum(np.minimum(rng.random(nodes) ** (-1 / 1.5), LARGEST_DEGREE_RATIO)[order])
    splits = np.searchsorted(community[order], np.arange(int(community.max()) + 2))
    edge_of = np.concatenate([[0.0], cumulative])[splits]

    def pick(where: npt.NDArray[np.float64]) -> Int64Array:
        return order[np.minimum(np.searchsorted(cumulative, where), nodes - 1)]

    keys = np.empty(0, np.int64)
    while keys.size < wanted:
        missing = wanted - keys.size
        size = min(int(missing * 1.05) + 1000, 1 << 22)
        first = pick(rng.random(size) * cumulative[-1])
        low, high = edge_of[community[first]], edge_of[community[first] + 1]
        target = low + rng.random(size) * (high - low)
        far = rng.random(size) < between
        target[far] = rng.random(int(far.sum())) * cumulative[-1]
        second = pick(target)
        kept = first != second
        fresh = (np.minimum(first, second) * nodes + np.maximum(first, second))[kept]
        before = keys.size
        keys = _merged(keys, sorted_unique(fresh), wanted, rng)
        if keys.size - before < size // 20:
            between = min(1.0, between + 0.2)
    return keys


def _merged(keys: Int64Array, fresh: Int64Array, wanted: int, rng: np.random.Generator) -> Int64Array:
    """Union of two ascending key lists, cut to `wanted` by leaving out some of `fresh` at random."""
    if keys.size:
        at = np.minimum(np.searchsorted(keys, fresh), keys.size - 1)
        fresh = fresh[keys[at] != fresh]
    if keys.size + fresh.size > wanted:
        fresh = rng.choice(fresh, wanted - keys.size, replace=False, shuffle=False)
    return sorted_unique(np.concatenate([keys, fresh]))


def _features(
    rng: np.random.Generator, labels: Int64Array, classes: int, width: int, spread: float
) -> npt.NDArray[np.float32]:
    """float32 [N, width]: centroid of the node's class plus unit noise, block by block."""
    centroids = (spread * rng.standard_normal((classes, width))).astype(np.float32)
    features = np.empty((labels.size, width), np.float32)
    step = max(1, (1 << 22) // width)
    for start in range(0, labels.size, step):
        block = features[start : start + step]
        rng.standard_normal(out=block, dtype=np.float32)
        block += centroids[labels[start : start + step]]
    return features


def _split(rng: np.random.Generator, nodes: int, train: float, val: float) -> npt.NDArray[np.uint8]:
    """Split codes [N]: at least one node each, the shares otherwise."""
    order = rng.permutation(nodes)
    first = min(max(1, round(train * nodes)), nodes - 2)
    second = min(max(first + 1, round((train + val) * nodes)), nodes - 1)
    split = np.full(nodes, TEST, np.uint8)
    split[order[:first]], split[order[first:second]] = TRAIN, VAL
    return split
