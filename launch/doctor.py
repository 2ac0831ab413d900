"""What is installed, what it can do here, and whether two processes can talk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil

from bnsgcn.capacity import core_count
from bnsgcn.config import BackendName, DeviceName
from bnsgcn.show.say import say
from bnsgcn.show.units import short
from bnsgcn.workers.local import run_local
from bnsgcn.workers.outcome import WorkerFailure
from bnsgcn.workers.worker import Job
from partition.errors import UserError

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pymetis",
    "dgl",
    "ogb",
    "torch_geometric",
    "matplotlib",
    "rich",
    "triton",
)
OPTIONAL = ("dgl", "ogb", "torch_geometric", "matplotlib", "triton")
MEGABYTES = 32


def examine() -> int:
    """Print what there is; 0 when training can run here."""
    say(f"{'python':<16} {platform.python_version()} on {platform.platform()}")
    needed = [name for name in PACKAGES if not _say_version(name) and name not in OPTIONAL]
    if needed:
        say(f"{', '.join(needed)} missing: pip install {' '.join(needed)}")
        return 1
    _say_devices()
    _say_kernels()
    return 0 if _try_round_trips() else 1


def _say_version(name: str) -> bool:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        say(f"{name:<16} not installed{' (optional)' if name in OPTIONAL else ''}")
        return False
    say(f"{name:<16} {version}")
    return True


def _say_devices() -> None:
    import torch

    compiler = shutil.which(os.environ.get("CC", "cc")) or "none"
    say(f"{'cores':<16} {core_count()}, C compiler: {compiler}")
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    say(f"{'CUDA devices':<16} {', '.join(devices) or 'none'}")
    backends = [
        name
        for name, there in (
            ("gloo", torch.distributed.is_gloo_available()),
            ("nccl", torch.distributed.is_nccl_available()),
        )
        if there
    ]
    say(f"{'collectives':<16} {', '.join(backends)}")


def _say_kernels() -> None:
    """Which aggregation kernels work on each device, how fast, and which one `--kernel auto` takes."""
    import torch

    from bnsgcn.kernels import describe
    from bnsgcn.kernels.select import copy_gb_per_s

    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        say(f"{f'kernels, {device}':<16} a copy: {copy_gb_per_s(device):,.0f} GB/s")
        for row in describe(device):
            chosen = ", taken by --kernel auto" if row.chosen else ""
            speed = "does not work"
            if row.sum_ms is not None:
                speed = f"{row.sum_ms:6.1f} ms a sum, {row.gb_per_s:,.0f} GB/s gathered"
            say(f"{'':<16} {row.name:<9} {speed}{chosen} ({row.note})")


def _try_round_trips() -> bool:
    """Each transport between two workers of this machine, over the devices that there are."""
    import torch

    good = _try_round_trip("gloo", "cpu")
    devices = torch.cuda.device_count()
    if devices:
        good &= _try_round_trip("gloo", "cuda")
    if devices > 1 and torch.distributed.is_nccl_available():
        good &= _try_round_trip("nccl", "cuda")
    else:
        needed = "a torch with nccl" if devices > 1 else f"2 CUDA devices, here are {devices}"
        say(f"{'':<16} nccl needs {needed}")
    return good


def _try_round_trip(backend: BackendName, device: DeviceName) -> bool:
    arguments = {"megabytes": MEGABYTES, "backend": backend, "device": device}
    heading = f"{'round trip' if device == 'cpu' else '':<16} two processes over {backend}"
    heading += "" if device == "cpu" else f", {device}"
    try:
        results = run_local(Job(task="round_trip", workers=2, arguments=arguments))
    except (WorkerFailure, UserError) as error:
        say(f"{heading}: failed: {str(error).splitlines()[0]}")
        return False
    seconds = max(result["seconds"] for result in results)
    rate = short(int(results[0]["megabytes"] / seconds * 1e6))
    intact = all(result["intact"] for result in results)
    say(f"{heading}: {'rows intact' if intact else 'ROWS DAMAGED'}, {rate}B/s")
    return intact
