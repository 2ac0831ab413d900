"""What a run's workers compute on, in one line, as a leaderboard asks for it."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path

import torch

from bnsgcn.capacity import core_count, memory_bytes
from bnsgcn.dist import World


def hardware(world: World) -> str:
    """The devices of all workers; where they compute on CPU, their machines. Collective."""
    own = platform.node(), device_name(world.device)
    everyone = [tuple(json.loads(text)) for text in world.all_gather_text(json.dumps(own))]
    counts = Counter(name for _, name in (everyone if world.device.type == "cuda" else set(everyone)))
    return " + ".join(f"{count} x {name}" for name, count in sorted(counts.items()))


def device_name(device: torch.device) -> str:
    """The model of a device, and its memory."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"{found.name} ({found.total_memory / 2**30:.0f} GB)"
    return f"{_cpu_model()}, {core_count()} cores ({memory_bytes() / 2**30:.0f} GB)"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return " ".join(next(named, platform.processor() or platform.machine()).split())
