"""What an epoch needs of a GPU's memory, by purpose, and what would fit into one that has less.

A worker on a GPU keeps all but its process there; with --features host the features too stay off it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bnsgcn.config import TrainConfig
from bnsgcn.plan.bytes import RunBytes, has_sparse_input, stays_on_the_host
from bnsgcn.plan.memory import PROCESS_BYTES, PlannedSizes, worker_bytes
from partition.store import Manifest, open_part, read_manifest

CONTEXT_BYTES = 600 << 20
"""What CUDA takes for itself: its context, kernels and the products' workspaces."""
FAR_BYTES = 2 << 26
"""Two pieces of features that cross over (kernels/host_rows.py)."""
_NARROWEST = 16


def device_bytes(worker: Mapping[str, int], manifest: Manifest, config: TrainConfig) -> dict[str, int]:
    """Of a worker's memory by purpose, `memory.worker_bytes`, what is on its GPU."""
    there = {"context": CONTEXT_BYTES} | {name: count for name, count in worker.items() if name != "process"}
    if stays_on_the_host(manifest, config):
        there["features"] = FAR_BYTES
    return there


def largest_device_bytes(parts_dir: str | Path, config: TrainConfig) -> dict[str, int]:
    """The same of the worker that needs the most of its GPU."""
    manifest = read_manifest(parts_dir)
    parts = [open_part(parts_dir, index, verify=False) for index in range(manifest.parts)]
    sizes = PlannedSizes(parts, config, RunBytes(parts, config))
    workers = (worker_bytes(sizes.on(part), part, config, PROCESS_BYTES) for part in parts)
    return max((device_bytes(worker, manifest, config) for worker in workers), key=lambda w: sum(w.values()))


def too_little(parts_dir: str | Path, config: TrainConfig, have: int) -> str:
    """The line for a GPU of `have` bytes whose memory did not last: what is needed, and what would fit."""
    needed = largest_device_bytes(parts_dir, config)
    purposes = sorted(needed.items(), key=lambda each: -each[1])
    listed = ", ".join(f"{name} {_gigabytes(count)}" for name, count in purposes if 100 * count > have)
    offers: dict[str, str] = {}
    for option, value in _smaller(parts_dir, config):
        changed = dataclasses.replace(config, **{option: value})
        count = sum(largest_device_bytes(parts_dir, changed).values())
        if count <= have and option not in offers:
            offers[option] = f"--{option} {value} ({_gigabytes(count)})"
    parts = read_manifest(parts_dir).parts
    offers["parts"] = f"about {_parts_that_fit(needed, have, parts)} parts on as many GPUs"
    return (
        f"not enough memory on the GPU: an epoch needs about {_gigabytes(sum(needed.values()))} of it "
        f"({listed}), a worker has {_gigabytes(have)}; would fit: {', or '.join(offers.values())}"
    )


def _smaller(parts_dir: str | Path, config: TrainConfig) -> Iterator[tuple[str, Any]]:
    """Options that may be tried in place of those of `config`, each by itself; of each the largest first."""
    if config.features == "device" and not has_sparse_input(read_manifest(parts_dir)):
        yield "features", "host"
    if config.storage == "fp32" and config.dtype == "float32":
        yield "storage", "bf16"
    width = config.hidden // 2
    while width >= _NARROWEST and width % (config.heads if config.model == "gat" else 1) == 0:
        yield "hidden", width
        width //= 2


def _parts_that_fit(needed: Mapping[str, int], have: int, parts: int) -> int:
    """How many parts bring what grows with a part below `have`, were they all alike."""
    fixed = needed["context"] + needed["weights"]
    grows = sum(needed.values()) - fixed
    return parts + 1 if have <= fixed else max(parts + 1, -(-grows * parts // (have - fixed)))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
