"""What one worker process does around training and evaluation: join, open, build, run, leave.

The environment that torchrun sets says who the worker is; outside torchrun it is the only one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bnsgcn.auto.recorded_decisions import decisions_of
from bnsgcn.capacity import check_threads, core_count, memory_bytes, most_threads
from bnsgcn.config import TrainConfig
from bnsgcn.device.place import local_size, means_cuda, memory_of
from bnsgcn.dist import World
from bnsgcn.kernels.pool import prefer_large_pages
from bnsgcn.local.boundary import check_parts_match
from bnsgcn.nn.models import build_model
from bnsgcn.own import NONE_OWN, Reference, References, resolve
from bnsgcn.plan.bytes import stays_on_the_host, sums_weights
from bnsgcn.plan.device_memory import too_little
from bnsgcn.plan.memory import density_of, least_bytes, parameter_count, sizes_of, weight_copies
from bnsgcn.record.hardware import hardware
from bnsgcn.record.rss import rss_bytes
from bnsgcn.record.run_folder import RunFacts, RunFolder
from bnsgcn.record.tracker import Tracker
from bnsgcn.train.agreement import agree, shape_digest
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.class_weights import weights_digest
from bnsgcn.train.evaluate import Scores
from bnsgcn.train.scores import chosen_metric
from bnsgcn.train.target import check_smoothing
from bnsgcn.train.trainer import Trainer, usable_kernels
from bnsgcn.train.validation import validation_nodes
from partition.errors import UserError
from partition.store import Manifest, Part, open_part, read_manifest

LAYER_BYTES = 10_000
"""What a layer takes even when it is one number wide: Python's objects around the weights."""


def prepare_process(threads: int) -> None:
    """Set this worker's compute threads (0 = cores / workers of this machine) and how it keeps memory."""
    check_threads(threads)
    prefer_large_pages()
    torch.set_num_threads(threads or max(1, core_count() // local_size()))


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
    parts_dir: str | Path,
    run_dir: str | Path,
    config: TrainConfig,
    listener: Tracker | None = None,
    own: References = NONE_OWN,
) -> dict[str, Any]:
    """Train on this worker's part; returns the summary. Collective over torchrun's workers.

    Args:
        own: functions of the user's own, in place of the options' model, Adam and so on.

    Raises:
        UserError: whatever a user can cause; see `Trainer`, `RunFolder.create` and `open_part`.
    """
    manifest = read_manifest(parts_dir)
    if "model" not in own:
        check_model_fits(manifest, config)
    # Whatever does not fit the graph, the user's functions or the device is said before there is a run.
    config.check_own(own)
    chosen_metric(config, manifest), validation_nodes(config, manifest)
    check_smoothing(manifest, config)
    if config.replay is not None:
        decisions_of(Path(config.replay), config, manifest)
    with joined(config) as world:
        usable_kernels(config, world.device)
        agree(world, config, manifest)
        run = RunFolder(run_dir)
        config = _of_a_restart(world, run, config)
        run.check(config, manifest, own)
        world.barrier()
        if world.rank == 0:
            run.create(config, manifest, parts_dir, own)
        world.barrier()
        process_bytes = rss_bytes()
        with _memory_told(world, parts_dir, config, own):
            trainer = _trainer(world, open_part(parts_dir, world.rank), config, run, listener, own=own)
            facts: dict[str, Any] = {"hardware": hardware(world)}
            if world.device.type == "cpu" and "model" not in own:  # whose width and depth are its own
                least = torch.tensor([sum(least_bytes_of(trainer, process_bytes).values())])
                facts["least_rss_bytes"] = int(world.all_reduce(least, "max"))
            return trainer.fit(facts)


@contextlib.contextmanager
def _memory_told(world: World, parts_dir: str | Path, config: TrainConfig, own: References) -> Iterator[None]:
    """UserError with what would fit when a GPU's memory does not last for the options' model."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        if "model" in own:
            raise
        raise UserError(too_little(parts_dir, config, memory_of(world.device))) from error


def _of_a_restart(world: World, run: RunFolder, config: TrainConfig) -> TrainConfig:
    """`config`, told to resume where torchrun has started the workers of this launch again.

    Machines count their restarts apart, and the one that had rank 0 may have another rank now; but some
    worker's torchrun is the one that the run folder names.
    """
    again = torch.tensor([int(run.is_of_this_launch())], device=world.device)
    return dataclasses.replace(config, resume=True) if int(world.all_reduce(again, "max")) else config


def least_bytes_of(trainer: Trainer, process_bytes: int) -> dict[str, int]:
    """The least memory that an epoch of the options' model needs here, by purpose (see plan/memory.py).

    `process_bytes`: what this process held before anything was read.
    """
    manifest, config = trainer.part.manifest, trainer.config
    takes_rows = getattr(trainer.model, "takes_sparse", False)
    return least_bytes(
        sizes_of(trainer.training),
        (manifest.num_features, manifest.num_classes),
        config,
        sum(parameter.numel() for parameter in trainer.model.parameters()),
        process_bytes,
        directed=manifest.directed,
        weighted=sums_weights(manifest, config),
        density=density_of(trainer.part) if takes_rows else None,
        far=takes_rows and stays_on_the_host(manifest, config),
    )


def evaluate_run(run_dir: str | Path, *, per_class: bool = False) -> Scores:
    """Exact scores of a run's best checkpoint. Collective over as many workers as the run had.

    `per_class`: with precision, recall and F1 of every class on the test nodes.
    """
    facts = opened(run_dir)
    with joined(facts.config) as world:
        trainer = _restored(world, facts, run_dir)
        return trainer.evaluate(per_class=per_class)


def check_model_fits(manifest: Manifest, config: TrainConfig) -> None:
    """UserError when the weights, gradients and moments alone are more than this machine has for a worker."""
    gpu = torch.device("cuda", 0) if means_cuda(config.device) and torch.cuda.is_available() else None
    have = memory_bytes() // local_size() if gpu is None else memory_of(gpu)
    need = LAYER_BYTES * config.layers
    if need <= have:
        weights = parameter_count(config, manifest.num_features, manifest.num_classes)
        need += weight_copies(config) * config.number_bytes * weights
    if need > have:
        raise UserError(
            f"--layers {config.layers} of --hidden {config.hidden} need at least {need / 1e9:,.0f} GB "
            f"a worker, {'this machine' if gpu is None else 'the GPU'} has {have / 1e9:,.0f} GB for each; "
            f"take fewer or narrower layers"
        )


def opened(run_dir: str | Path) -> RunFacts:
    """What a run was asked for, as far as it is of use here."""
    facts = RunFolder(run_dir).open()
    threads = min(facts.config.threads, most_threads())  # the run may be of a larger machine
    # Nothing is trained: a file of weights need not be there any more.
    config = dataclasses.replace(facts.config, threads=threads, class_weights=None, track=None, profile=None)
    return dataclasses.replace(facts, config=config)


def _restored(world: World, facts: RunFacts, run_dir: str | Path) -> Trainer:
    config = facts.config
    agree(world, config, read_manifest(facts.parts_dir))
    trainer = _trainer(
        world,
        open_part(facts.parts_dir, world.rank),
        config,
        RunFolder(run_dir),
        None,
        own=facts.own,
        record=False,
    )
    trainer.load_best()
    return trainer


def _trainer(
    world: World,
    part: Part,
    config: TrainConfig,
    run: RunFolder,
    listener: Tracker | None,
    *,
    own: References,
    record: bool = True,
) -> Trainer:
    check_parts_match(world, part)
    model, shape = model_of(part.manifest, config, own), model_shape(config)
    if "model" in own:
        shape = f"{Reference(**own['model'])} {shape_digest(model)[:12]}"
    functions = {kind: resolve(kind, Reference(**own[kind])) for kind in own if kind != "model"}
    identity = {"graph": part.manifest.graph_digest, "parts": part.manifest.digest, "model": shape}
    if digest := weights_digest(config, part.manifest.num_classes):
        identity["class weights"] = digest
    checkpoints = Checkpoints(run.path, world, identity=identity)
    return Trainer(
        world,
        part,
        model,
        config,
        **functions,
        run=run if record else None,
        checkpoints=checkpoints,
        listener=listener,
    )


def model_of(manifest: Manifest, config: TrainConfig, own: References) -> torch.nn.Module:
    """The model of the options, or of the user's own function, with weights that depend on --seed alone.

    Raises:
        UserError: that function cannot be found, or gives no module.
    """
    if "model" not in own:
        return build_model(manifest, config)
    build = resolve("model", Reference(**own["model"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build(manifest.num_features, manifest.num_classes, config)
    if not isinstance(model, torch.nn.Module):
        raise UserError(f"model(features, classes, config) gave a {type(model).__name__}, must be a module")
    return model


def model_shape(config: TrainConfig) -> str:
    """The options that decide which weights a checkpoint holds, in one line."""
    heads = f" heads={config.heads}" if config.model == "gat" else ""
    linear = f" linear={config.linear_layers} norm={config.norm} {config.dtype}"
    more = {
        "residual": config.residual,
        "jumping": config.jumping_knowledge,
        "input-linear": config.input_linear,
        "activation": config.activation if config.activation != "relu" else "",
    }
    said = "".join(f" {name}={value}" for name, value in more.items() if value)
    return f"{config.model} {config.layers}x{config.hidden}{heads}{linear}{said}"
