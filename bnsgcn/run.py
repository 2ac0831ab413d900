"""What one worker process does around training, evaluation and prediction: join, open, build, run, leave.

The environment that torchrun sets says who the worker is; outside torchrun it is the only one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World, local_size
from bnsgcn.kernels.pool import prefer_large_pages
from bnsgcn.nn.models import build_model
from bnsgcn.plan.bytes import layer_widths
from bnsgcn.plan.memory import least_bytes, sizes_of
from bnsgcn.record.rss import rss_bytes
from bnsgcn.record.run_folder import Listener, RunFolder
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.evaluate import Scores
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import Manifest, Part, open_part, read_manifest


def prepare_process(threads: int) -> None:
    """Set this worker's compute threads (0 = cores / workers of this machine) and how it keeps memory."""
    prefer_large_pages()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or max(1, cores // local_size()))


@contextlib.contextmanager
def joined(config: TrainConfig) -> Iterator[World]:
    """This worker's world, left again at the end."""
    prepare_process(config.threads)
    world = World.start(backend=config.backend, device=config.device, timeout_s=config.timeout_s)
    try:
        yield world
    finally:
        world.close()


def train_worker(
    parts_dir: str | Path, run_dir: str | Path, config: TrainConfig, listener: Listener | None = None
) -> dict[str, Any]:
    """Train on this worker's part; returns the summary. Collective over torchrun's workers.

    Raises:
        UserError: whatever a user can cause; see `Trainer`, `RunFolder.create` and `open_part`.
    """
    manifest = read_manifest(parts_dir)
    with joined(config) as world:
        check_workers(manifest, world)
        run = RunFolder(run_dir)
        run.check(config, manifest)
        world.barrier()
        if world.rank == 0:
            run.create(config, manifest, parts_dir)
        world.barrier()
        process_bytes = rss_bytes()
        trainer = _trainer(world, open_part(parts_dir, world.rank), config, run, listener)
        least = torch.tensor([sum(least_bytes_of(trainer, process_bytes).values())], device=world.device)
        return trainer.fit({"least_rss_bytes": int(world.all_reduce(least, "max"))})


def least_bytes_of(trainer: Trainer, process_bytes: int) -> dict[str, int]:
    """The least memory that an epoch of the options' model needs here, by purpose (see plan/memory.py).

    `process_bytes`: what this process held before anything was read.
    """
    manifest, config = trainer.part.manifest, trainer.config
    return least_bytes(
        sizes_of(trainer.training),
        layer_widths(manifest, config),
        config,
        sum(parameter.numel() for parameter in trainer.model.parameters()),
        process_bytes,
        directed=manifest.directed,
    )


def evaluate_run(run_dir: str | Path) -> Scores:
    """Exact scores of a run's best checkpoint. Collective over as many workers as the run had."""
    config, parts_dir = _opened(run_dir)
    with joined(config) as world:
        trainer = _restored(world, parts_dir, config, run_dir)
        return trainer.evaluate()


def predict_run(run_dir: str | Path, out: str | Path) -> tuple[int, int]:
    """Write the best checkpoint's logits of all nodes to `out` (.npy, float32 [N, C], original order).

    The ranks write their rows side by side into a memory map under a temporary name on a file system that all
    of them see; rank 0 renames it at the end. Returns the shape. Collective.
    """
    config, parts_dir = _opened(run_dir)
    target = Path(out)
    partial = target.with_name(target.name + ".partial")
    with joined(config) as world:
        trainer = _restored(world, parts_dir, config, run_dir)
        shape = (trainer.part.manifest.num_nodes, trainer.part.manifest.num_classes)
        if world.rank == 0:
            np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape).flush()
        world.barrier()
        logits = trainer.predict().float().cpu().numpy()
        rows = np.lib.format.open_memmap(partial, mode="r+")
        rows[trainer.part.node_ids] = logits
        rows.flush()
        world.barrier()
        if world.rank == 0:
            partial.replace(target)
        world.barrier()
    return shape


def check_workers(manifest: Manifest, world: World) -> None:
    """ValueError when there are not as many workers as parts."""
    if manifest.parts != world.size:
        raise UserError(
            f"{manifest.parts} parts but {world.size} workers; start {manifest.parts} workers "
            f"or partition into {world.size} parts"
        )


def _opened(run_dir: str | Path) -> tuple[TrainConfig, Path]:
    facts = RunFolder(run_dir).open()
    return facts.config, facts.parts_dir


def _restored(world: World, parts_dir: Path, config: TrainConfig, run_dir: str | Path) -> Trainer:
    manifest = read_manifest(parts_dir)
    check_workers(manifest, world)
    trainer = _trainer(
        world, open_part(parts_dir, world.rank), config, RunFolder(run_dir), None, record=False
    )
    trainer.load_best()
    return trainer


def _trainer(
    world: World,
    part: Part,
    config: TrainConfig,
    run: RunFolder,
    listener: Listener | None,
    *,
    record: bool = True,
) -> Trainer:
    identity = {"parts": part.manifest.digest, "model": model_shape(config)}
    checkpoints = Checkpoints(run.path, world.rank, world.size, world.barrier, identity=identity)
    return Trainer(
        world,
        part,
        build_model(part.manifest, config),
        config,
        run=run if record else None,
        checkpoints=checkpoints,
        listener=listener,
    )


def model_shape(config: TrainConfig) -> str:
    """The options that decide which weights a checkpoint holds, in one line."""
    heads = f" heads={config.heads}" if config.model == "gat" else ""
    linear = f" linear={config.linear_layers} norm={config.norm} {config.dtype}"
    return f"{config.model} {config.layers}x{config.hidden}{heads}{linear}"
