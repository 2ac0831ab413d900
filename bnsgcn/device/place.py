"""Which device this worker computes on, and over which transport the workers can talk then.

nccl refuses two workers on one GPU; gloo takes any, through host memory. All workers have to take the same.
"""

from __future__ import annotations

import os

import torch
from torch.distributed import Store, is_nccl_available  # type: ignore[attr-defined]

from partition.errors import UserError, one_line


def local_size() -> int:
    """Workers on this machine, as torchrun says; 1 outside torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def means_cuda(name: str) -> bool:
    """Whether an option of TrainConfig means a GPU here."""
    return name == "cuda" or (name == "auto" and torch.cuda.is_available())


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU that one of the workers that share it may have."""
    sharing = -(-local_size() // max(1, torch.cuda.device_count()))
    return int(torch.cuda.get_device_properties(device).total_memory) // sharing


def exact_device(name: str) -> torch.device:
    """The device of that name, with its number: `cuda` is the current one."""
    device = torch.device(name)
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device


def pick_device(name: str) -> torch.device:
    """The device that an option of TrainConfig means here: of several GPUs one's own, else a shared one.

    Raises:
        UserError: It asks for CUDA, and this torch, this driver or this machine has none.
    """
    if not means_cuda(name):
        return torch.device("cpu")
    if torch.version.cuda is None and not torch.cuda.is_available():
        raise UserError(
            f"--device cuda, but torch {torch.__version__} is built without CUDA; "
            f"install a build for CUDA (pytorch.org) or use --device cpu"
        )
    try:
        torch.cuda.init()
    except RuntimeError as error:  # no device, a driver that is too old: torch says which
        raise UserError(
            f"--device cuda does not work here: {one_line(error).rstrip('.')}; use --device cpu"
        ) from error
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def pick_backend(name: str, device: torch.device) -> str:
    """The transport that an option of TrainConfig means here.

    Raises:
        UserError: nccl without a GPU for every worker of this machine.
    """
    if name == "gloo" or (name == "auto" and device.type != "cuda"):
        return "gloo"
    if device.type != "cuda":
        raise UserError(
            "--backend nccl needs CUDA tensors and there is no CUDA device here; use --backend gloo"
        )
    devices, workers = torch.cuda.device_count(), local_size()
    if name == "auto":
        return "nccl" if workers <= devices and is_nccl_available() else "gloo"
    if workers > devices:
        raise UserError(
            f"--backend nccl with {workers} workers on {devices} CUDA devices here, and nccl refuses two on "
            f"one; use --backend gloo, or at most {devices} workers a machine"
        )
    if not is_nccl_available():
        raise UserError(f"--backend nccl, but torch {torch.__version__} has no nccl; use --backend gloo")
    return name


def common_backend(store: Store, rank: int, size: int, name: str, device: torch.device) -> str:
    """`name`, unless a worker elsewhere can only do with gloo; for `auto`, before there is a group."""
    store.set(f"backend {rank}", name)
    if device.type != "cuda":
        return name
    everyone = {store.get(f"backend {other}").decode() for other in range(size)}
    return name if len(everyone) == 1 else "gloo"
