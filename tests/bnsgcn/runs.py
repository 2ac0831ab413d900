"""A training run on any number of ranks, written down in the graph's own node order.

N nodes   C classes
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.graph import Graph
from partition.store import Manifest, Part, open_part
from tests.bnsgcn.dense_reference import DenseRun
from tests.multiprocess import run_ranks

STEPS = 10
Values = dict[str, np.ndarray]
Breach = Callable[[Part], Part]
Build = Callable[[Manifest, TrainConfig], torch.nn.Module]


@dataclasses.dataclass
class Recorded:
    """What one rank saw of a run."""

    losses: list[float]
    train_logits: np.ndarray
    """[N, C] of the first epoch; NaN where this rank computed none."""
    gradients: list[Values]
    """Of every epoch, by parameter name."""
    weights: Values
    logits: np.ndarray
    """[N, C] of the exact evaluation at the end; NaN for nodes of other ranks."""
    digests: list[str]
    """Of the weights' bytes after every epoch."""


def trainer_of(
    world: World,
    folder: Path,
    config: TrainConfig,
    breach: Breach | None = None,
    build: Build = build_model,
) -> Trainer:
    """A trainer of the command line's model, or another, on this rank's part, which `breach` may spoil."""
    part = open_part(folder, world.rank)
    if breach is not None:
        part = breach(part)
    return Trainer(world, part, build(part.manifest, config), config)


def record(
    world: World,
    folder: Path,
    config: TrainConfig,
    steps: int = STEPS,
    breach: Breach | None = None,
    build: Build = build_model,
) -> Recorded:
    """Train for some epochs, outside any command line."""
    trainer = trainer_of(world, folder, config, breach, build)
    part, model = trainer.part, trainer.model
    node_ids = open_part(folder, world.rank).node_ids  # not those that `breach` may have spoiled
    shape = part.manifest.num_nodes, part.manifest.num_classes
    first: list[torch.Tensor] = []
    handle = model.register_forward_hook(lambda _, __, logits: first.append(logits.detach()))
    kept = Recorded([], np.full(shape, np.nan), [], {}, np.full(shape, np.nan), [])
    for _ in range(steps):
        kept.losses.append(trainer.train_epoch()["loss"])
        kept.gradients.append({name: as_array(p.grad) for name, p in model.named_parameters()})
        kept.digests.append(weights_digest(model))
        if config.lr_schedule == "plateau":
            trainer.progress.note(trainer.evaluate(), config)
    handle.remove()
    kept.train_logits[node_ids[trainer.training.logits_rows]] = first[0].cpu().numpy()
    kept.weights = {name: as_array(value) for name, value in model.state_dict().items()}
    kept.logits[node_ids] = trainer.predict().cpu().numpy()
    return kept


def one_run(ranks: list[Recorded]) -> Recorded:
    """The ranks' records as one; asserts that what must agree bitwise does."""
    whole = ranks[0]
    for other in ranks[1:]:
        assert other.digests == whole.digests, "the ranks' weights have drifted apart"
        assert other.losses == whole.losses
        for field in ("train_logits", "logits"):
            mine, theirs = getattr(whole, field), getattr(other, field)
            assert not (~np.isnan(mine) & ~np.isnan(theirs)).any(), "a node has two owners"
            setattr(whole, field, np.where(np.isnan(mine), theirs, mine))
    return whole


def run_on(folder: Path, parts: int, config: TrainConfig, tmp_path: Path, steps: int = STEPS) -> Recorded:
    """One run on as many ranks as there are parts; a single one needs no process of its own."""
    if parts == 1:
        return one_run([record(World.single(), folder, config, steps)])
    return one_run(run_ranks(record, parts, tmp_path, folder, config, steps))


def dense_run(graph: Graph, folder: Path, config: TrainConfig, steps: int = STEPS) -> Recorded:
    """The same run as `record`'s by the dense reference."""
    weights = build_model(open_part(folder, 0).manifest, config).state_dict()
    run = DenseRun(graph, config, weights)
    kept = Recorded([], np.empty(0), [], {}, np.empty(0), [])
    for epoch in range(steps):
        loss, logits, gradients = run.step()
        kept.losses.append(loss)
        kept.gradients.append({name: as_array(value) for name, value in gradients.items()})
        if epoch == 0:
            kept.train_logits = logits.numpy()
    kept.weights = {name: as_array(value) for name, value in (run.weights | run.buffers).items()}
    kept.logits = run.logits().numpy()
    return kept


def largest_difference(mine: Recorded, theirs: Recorded) -> float:
    """The largest difference of losses, training logits, all gradients, weights and exact logits."""
    differences = [abs(a - b) for a, b in zip(mine.losses, theirs.losses, strict=True)]
    seen = ~np.isnan(mine.train_logits)
    assert seen.any()
    differences.append(float(np.abs(mine.train_logits - theirs.train_logits)[seen].max()))
    for a, b in zip([*mine.gradients, mine.weights], [*theirs.gradients, theirs.weights], strict=True):
        assert a.keys() == b.keys()
        differences += [float(np.abs(a[name] - b[name]).max()) for name in a]
    differences.append(float(np.abs(mine.logits - theirs.logits).max()))
    assert np.isfinite(differences).all(), differences
    return max(differences)


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of all weights, bit by bit."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(as_array(value).tobytes())
    return digest.hexdigest()


def as_array(value: torch.Tensor | None) -> np.ndarray:
    """A copy that a later step does not change."""
    assert value is not None
    return value.detach().cpu().numpy().copy()
