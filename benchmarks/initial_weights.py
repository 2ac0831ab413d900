"""How soon the real graphs are learnt with weights drawn by --init uniform and by --init xavier.

    python -m benchmarks.initial_weights             every graph, gcn and sage, 3 seeds

One worker, 3 layers of 64, layer norm, lr 0.01, 60 epochs, 64 feature columns (see benchmarks/graphs.py).
Compared are the validation score that 20 epochs reach, the best of 60, and the epochs until 95 % of the best
that either way reaches on that graph and model.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import torch

from benchmarks.graphs import SETUPS, reduced_source
from benchmarks.measure import machine, table, write_record
from benchmarks.workers import Curve
from benchmarks.workloads import parts_folder
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.store import open_part

GRAPHS = [name for name in SETUPS if name not in ("debian12-deps", "debian12-tags", "deezer-hu")]
BASE = TrainConfig(layers=3, hidden=64, epochs=60, eval_every=4, device="cpu", threads=1)


def curve_of(source: str, config: TrainConfig) -> list[tuple[int, float]]:
    """Epochs and validation score of every evaluation."""
    part, curve = open_part(parts_folder(source, 1), 0, verify=False), Curve()
    Trainer(World.single(), part, build_model(part.manifest, config), config, listener=curve).fit()
    return [(int(e["epoch"]) + 1, e["val_score"]) for e in curve.epochs if "val_score" in e]


def mean_curve(curves: list[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Of several seeds."""
    return [(at[0][0], sum(score for _, score in at) / len(at)) for at in zip(*curves, strict=True)]


def row_of(graph: str, model: str, found: dict[str, list[tuple[int, float]]]) -> list[str]:
    """One graph and model: uniform / xavier for each figure."""
    goal = 0.95 * max(score for curve in found.values() for _, score in curve)
    early = [next(score for epoch, score in found[init] if epoch >= 20) for init in ("uniform", "xavier")]
    best = [max(score for _, score in found[init]) for init in ("uniform", "xavier")]
    until = [
        next((str(epoch) for epoch, score in found[init] if score >= goal), "never")
        for init in ("uniform", "xavier")
    ]
    pairs = [" / ".join(f"{100 * score:.1f}" for score in scores) for scores in (early, best)]
    return [graph, model, *pairs, " / ".join(until)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="*", default=GRAPHS, choices=list(SETUPS), metavar="GRAPH")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    options, before = parser.parse_args(), machine()
    torch.set_num_threads(1)
    rows, raw = [], []
    for graph, model in itertools.product(options.graphs, ("gcn", "sage")):
        source = reduced_source(graph, options.shared)
        found: dict[str, Any] = {}
        for init in ("uniform", "xavier"):
            changed: dict[str, Any] = {"model": model, "init": init}
            configs = [dataclasses.replace(BASE, **changed, seed=seed) for seed in range(options.seeds)]
            found[init] = mean_curve([curve_of(source, config) for config in configs])
        raw.append({"graph": graph, "model": model, **found})
        rows.append(row_of(graph, model, found))
        print(rows[-1], flush=True)
    header = ["graph", "model", "validation at 20 epochs, %", "best of 60, %", "epochs to 95 % of the best"]
    write_record(
        "initial_weights",
        claim="Weights drawn within 1/sqrt(fan in) beside Glorot's: uniform / xavier.",
        body=table(header, rows),
        raw=raw,
        does_not_show="other depths, widths and rates; features as they come.",
        before=before,
    )


if __name__ == "__main__":
    main()
