"""Our own workers as a contestant: an epoch whenever told to.

    python -m benchmarks.ours PARTS --config '{"model": "sage"}'      one worker of torchrun's environment

`ours_contestant` starts one such process per part and puts torchrun's environment into each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Turns, forget_peak, peak_rss_bytes, python
from benchmarks.vanilla import KINDS, vanilla
from benchmarks.workloads import recipe
from bnsgcn.config import TrainConfig
from bnsgcn.record.rss import rss_bytes
from bnsgcn.run import build_model, joined, least_bytes_of
from bnsgcn.train.trainer import Trainer
from partition.store import open_part


def free_port() -> int:
    """A TCP port that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environments(size: int, *, address: str = "127.0.0.1", threads: int = 1) -> list[dict[str, str]]:
    """What torchrun would put into each worker's environment."""
    port = str(free_port())
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": str(threads),
        }
        for rank in range(size)
    ]


def workload_config(name: str, **changes: Any) -> TrainConfig:
    """The options with which a workload is trained: its recipe, layer 0 precomputed."""
    shape = recipe(name)
    return TrainConfig(
        model="sage",
        layers=shape.layers,
        hidden=shape.hidden,
        dropout=shape.dropout,
        lr=shape.lr,
        precompute=True,
        device="cpu",
        epochs=1_000_000,
        **changes,
    )


def ours_contestant(
    name: str,
    parts_dir: Path,
    config: TrainConfig,
    *,
    parts: int,
    threads: int,
    prefixes: Sequence[Sequence[str]] = (),
    environment: Sequence[dict[str, str]] | None = None,
    options: Sequence[str] = (),
) -> Contestant:
    """`parts` workers under one name; `prefixes` stand before each command (network namespaces)."""
    command = python("benchmarks.ours", str(parts_dir), "--config", json.dumps(config.to_json()), *options)
    commands = [[*prefix, *command] for prefix in (prefixes or [[]] * parts)]
    return Contestant(name, commands, environment or environments(parts, threads=threads))


def watch(trainer: Trainer) -> dict[str, Any]:
    """The present resident set, and a digest of the weights' bits."""
    digest = hashlib.sha256()
    for parameter in trainer.model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return {"rss_bytes": peak_rss_bytes("VmRSS"), "weights": digest.hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts_dir", type=Path)
    parser.add_argument("--config", type=json.loads, required=True)
    parser.add_argument(
        "--watch", action="store_true", help="add the present memory and a digest of the weights"
    )
    parser.add_argument("--vanilla", default="", choices=KINDS, help="nothing overlapped, see vanilla.py")
    parser.add_argument("--evaluate", action="store_true", help="evaluate once before the first epoch")
    options = parser.parse_args()
    turns = Turns()
    config = TrainConfig.from_json(options.config)
    with joined(config) as world, vanilla(options.vanilla):
        part, process_bytes = open_part(options.parts_dir, world.rank, verify=False), rss_bytes()
        trainer = Trainer(world, part, build_model(part.manifest, config), config)
        if options.evaluate:
            trainer.evaluate()
        loading_peak = peak_rss_bytes()
        forget_peak()
        turns.say(
            event="ready",
            loading_peak_rss_bytes=loading_peak,
            least_rss_bytes=sum(least_bytes_of(trainer, process_bytes).values()),
        )
        while turns.wait():
            metrics = trainer.train_epoch()
            spent = {"epoch_s": metrics["time/epoch_s"], "cpu_s": turns.cpu_s()}
            watched = watch(trainer) if options.watch else {}
            turns.say(**metrics, **watched, **spent, peak_rss_bytes=peak_rss_bytes())


if __name__ == "__main__":
    main()
