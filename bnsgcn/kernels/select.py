"""Which kernels a run uses: a name from the command line, the device and the dtype decide."""

from __future__ import annotations

from typing import Literal

import torch

from bnsgcn.kernels.dgl_sum import DglKernels
from bnsgcn.kernels.portable import TorchKernels
from bnsgcn.kernels.protocol import Kernels

KernelName = Literal["auto", "compiled", "dgl", "torch"]


def select(
    name: KernelName, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Kernels:
    """The kernels for `name` on `device`; one instance, to be passed down.

    Raises:
        ValueError: `name` asks for a backend that cannot work here; the message says why and what to use.
    """
    if name in ("auto", "torch", "compiled"):
        return TorchKernels()
    if name == "dgl":
        return DglKernels()
    raise ValueError(f"kernel is {name!r}, must be one of auto, compiled, dgl, torch; try auto")
