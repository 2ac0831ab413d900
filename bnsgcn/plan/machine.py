"""How fast this machine does what an epoch consists of: four rates, measured in about a second."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.device.place import means_cuda, memory_of
from bnsgcn.kernels import Block, Csr, LayerNorm, Mask, select
from bnsgcn.plan.memory import PROCESS_BYTES
from bnsgcn.record.rss import peak_rss_bytes

_ROWS, _DEGREE, _NEAR, _REPEATS = 8192, 24, 2048, 5
LOOPBACK_BYTES_PER_S = 2e9
"""What gloo moves between two processes of one machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates of one worker."""

    sum_bytes_per_s: float
    """Neighbour rows read by a sum: arcs x columns x bytes of a number."""
    products_per_s: float
    """Floating point operations of dense products."""
    pass_bytes_per_s: float
    """Bytes of a matrix that norm, ReLU and dropout, in one pass, go through."""
    link_bytes_per_s: float = LOOPBACK_BYTES_PER_S
    """Of one worker, each way."""
    latency_s: float = 2e-4
    """Of one collective."""
    base_bytes: int = PROCESS_BYTES
    """A worker's memory for the interpreter and its libraries, without any graph."""
    device_bytes: int | None = None
    """A worker's share of its GPU's memory; None = the options mean the CPU, or a GPU that is not here."""

    @classmethod
    def measure(cls, config: TrainConfig, *, link_bytes_per_s: float = LOOPBACK_BYTES_PER_S) -> Machine:
        """Measure on CPU with the options' width, number format and kernels, and torch's threads as set.

        The link is not measured: name its rate.
        """
        base_bytes = peak_rss_bytes()
        on_gpu = means_cuda(config.device) and torch.cuda.is_available()
        dtype = torch.float64 if config.dtype == "float64" else torch.float32
        kernels = select("auto" if config.kernel == "triton" else config.kernel, "cpu", dtype)
        x = torch.ones(_ROWS, config.hidden, dtype=dtype)
        weight = torch.ones(config.hidden, config.hidden, dtype=dtype)
        block = Block(_sample_csr(), kernels)
        mask = Mask(torch.arange(_ROWS), key=0, p=0.5)
        nbytes = x.numel() * x.element_size()
        return cls(
            sum_bytes_per_s=_DEGREE * nbytes / _seconds(lambda: kernels.sum_rows(block.csr, x)),
            products_per_s=2 * _ROWS * config.hidden**2 / _seconds(lambda: torch.mm(x, weight)),
            pass_bytes_per_s=nbytes / _seconds(lambda: kernels.norm_relu_dropout(x, LayerNorm(), mask)),
            link_bytes_per_s=link_bytes_per_s,
            base_bytes=base_bytes,
            device_bytes=memory_of(torch.device("cuda", 0)) if on_gpu else None,
        )


def _sample_csr() -> Csr:
    """Rows whose neighbours lie near, as the partitioner's order puts them."""
    rng = np.random.default_rng(0)
    near = np.arange(_ROWS)[:, None] + rng.integers(-_NEAR, _NEAR, (_ROWS, _DEGREE))
    indices = np.sort(near.clip(0, _ROWS - 1), axis=1).ravel()
    return Csr.from_numpy(np.arange(0, indices.size + 1, _DEGREE), indices.astype(np.int32), _ROWS)


def _seconds(work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return max(min(spent), 1e-9)
