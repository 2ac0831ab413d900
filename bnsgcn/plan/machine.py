"""How fast this machine does what an epoch consists of: rates of a worker, measured in seconds.

Rates are those that training has: at the width and number format of the options, with as many threads, on
rows in the partitioner's order, and with all workers of this machine at work at once, which share caches and
memory. `overhead_s` is an epoch of the same model on a graph of a few nodes: the interpreter, autograd, the
optimiser. What is not measured here (links, messages between processes) has usual values; `plan --calibrate`
measures it, see rehearsal.py.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnsgcn.capacity import core_count
from bnsgcn.config import TrainConfig
from bnsgcn.device.place import means_cuda, memory_of
from bnsgcn.dist import World
from bnsgcn.kernels import Block, Csr, Kernels, LayerNorm, Mask, select
from bnsgcn.nn.models import build_model
from bnsgcn.plan.by_hand import by_hand
from bnsgcn.plan.memory import PROCESS_BYTES
from bnsgcn.record.rss import peak_rss_bytes
from bnsgcn.train.trainer import Trainer
from partition.build import partition_graph
from partition.store import Part, open_part

_ROWS, _DEGREE, _NEAR, _REPEATS = 8192, 24, 2048, 5
_FEW_NODES = "synthetic:nodes=64,degree=2,features=8,classes=2,communities=2"
LOOPBACK_BYTES_PER_S = 2e9
"""What gloo moves between two processes of one machine."""
PAYLOAD = 0.95
"""What a link carries beside the heads of its packets."""
IDLE_LATENCY_S, BUSY_LATENCY_S = 2e-4, 2e-3
"""Of a message while a core is idle, and while the threads that move rows wait for the computing ones."""
MESSAGE_S, TRANSPORT_BYTES_PER_S = 3e-4, 2e9
"""Usual values of `Machine.message_s` and `Machine.transport_bytes_per_s`, of TCP."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates of one worker."""

    sum_bytes_per_s: float
    """Neighbour rows read by a sum: arcs x columns x bytes of a number."""
    products_per_s: float
    """Floating point operations of dense products."""
    pass_bytes_per_s: float
    """Bytes of a matrix that norm, ReLU and dropout, in one pass, go through."""
    copy_bytes_per_s: float = math.inf
    """Bytes of rows that are gathered."""
    overhead_s: float = 0.0
    """An epoch of almost no rows."""
    message_s: float = 0.0
    """Processor time of either end of a message, whatever its size, of the thread that moves rows."""
    transport_bytes_per_s: float = math.inf
    """Bytes that this thread moves while it has a processor."""
    link_bytes_per_s: float = LOOPBACK_BYTES_PER_S
    """Of one worker, each way."""
    latency_s: float = 2e-4
    """From posting to arrival of a message of no bytes, while workers compute."""
    cores: float = math.inf
    """Of all workers together, over the threads of one: how many can compute at once."""
    base_bytes: int = PROCESS_BYTES
    """A worker's memory for the interpreter and its libraries, without any graph."""
    device_bytes: int | None = None
    """A worker's share of its GPU's memory; None = the options mean the CPU, or a GPU that is not here."""
    compute_factor: float = 1.0
    """Measured over predicted time of computing, by a rehearsal."""
    exchange_factor: float = 1.0
    """The same of draws, packing and smoothing."""
    memory_factor: float = 1.0
    """The same of a worker's memory beyond `base_bytes`."""

    def apart(self, link_bytes_per_s: float) -> Machine:
        """The same with a worker on each of as many machines, between links of a rate."""
        return dataclasses.replace(self, link_bytes_per_s=PAYLOAD * link_bytes_per_s, cores=math.inf)

    @classmethod
    def measure(
        cls,
        config: TrainConfig,
        *,
        link_bytes_per_s: float = LOOPBACK_BYTES_PER_S,
        parts: Sequence[Part] = (),
    ) -> Machine:
        """Measure on CPU with the options' width, number format and kernels, and torch's threads as set.

        The link is not measured: name its rate. With `parts`, all of a folder, sums go over rows of the first
        of them, as many at once as there are parts and cores, and the workers share this machine's cores.
        """
        base_bytes = peak_rss_bytes()
        on_gpu = means_cuda(config.device) and torch.cuda.is_available()
        bench, cores = _Bench(config, parts), core_count() / torch.get_num_threads()
        return cls(
            sum_bytes_per_s=bench.sums(),
            products_per_s=bench.products(),
            pass_bytes_per_s=bench.passes(),
            copy_bytes_per_s=bench.copies(),
            overhead_s=_overhead_s(config),
            message_s=MESSAGE_S,
            transport_bytes_per_s=TRANSPORT_BYTES_PER_S,
            link_bytes_per_s=link_bytes_per_s,
            latency_s=IDLE_LATENCY_S if len(parts) < cores else BUSY_LATENCY_S,
            cores=cores,
            base_bytes=base_bytes,
            device_bytes=memory_of(torch.device("cuda", 0)) if on_gpu else None,
        )


class _Bench:
    """The kernels of an epoch, timed."""

    def __init__(self, config: TrainConfig, parts: Sequence[Part]) -> None:
        self._dtype = torch.float64 if config.dtype == "float64" else torch.float32
        self._kernels: Kernels = select(
            "auto" if config.kernel == "triton" else config.kernel, "cpu", self._dtype
        )
        self._width = config.hidden
        csr = _rows_of(parts[0]) if parts else _made_up()
        self._block = Block(csr, self._kernels)
        self._at_once = max(1, min(len(parts), core_count() // torch.get_num_threads()))

    def _ones(self, rows: int, columns: int) -> Tensor:
        return torch.ones(rows, columns, dtype=self._dtype)

    def sums(self) -> float:
        """Bytes of neighbours' rows a second."""
        csr = self._block.csr
        nbytes = csr.num_arcs * self._width * self._dtype.itemsize

        def prepared() -> Callable[[], object]:
            x = self._ones(csr.num_cols, self._width)
            return lambda: self._kernels.sum_rows(csr, x)

        return nbytes / self._seconds(prepared)

    def products(self) -> float:
        """Operations a second of a product and of both of its gradients."""

        def prepared() -> Callable[[], object]:
            x, weight = self._ones(_ROWS, self._width), self._ones(self._width, self._width)
            return lambda: (torch.mm(x, weight), torch.mm(x, weight.t()), torch.mm(x.t(), x))

        return 6 * _ROWS * self._width**2 / self._seconds(prepared)

    def passes(self) -> float:
        """Bytes a second of norm, ReLU and dropout."""

        def prepared() -> Callable[[], object]:
            x, mask = self._ones(_ROWS, self._width), Mask(torch.arange(_ROWS), key=0, p=0.5)
            return lambda: self._kernels.norm_relu_dropout(x, LayerNorm(), mask)

        return _ROWS * self._width * self._dtype.itemsize / self._seconds(prepared)

    def copies(self) -> float:
        """Bytes a second of a gathering of rows."""

        def prepared() -> Callable[[], object]:
            x, index = self._ones(_ROWS, self._width), torch.arange(0, _ROWS, 2).flip(0)
            return lambda: self._kernels.gather_rows(x, index)

        return _ROWS // 2 * self._width * self._dtype.itemsize / self._seconds(prepared)

    def _seconds(self, prepared: Callable[[], Callable[[], object]]) -> float:
        """Of one piece of work while others do the same: the median of the slowest."""
        if self._at_once == 1:
            return _median_s(prepared())
        together, spent = threading.Barrier(self._at_once), [0.0] * self._at_once

        def turn(place: int) -> None:
            work = prepared()
            together.wait()
            spent[place] = _median_s(work)

        others = [threading.Thread(target=turn, args=(place,)) for place in range(self._at_once)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        return max(spent)


def _rows_of(part: Part) -> Csr:
    """The first rows of a part's inner block, as they are summed."""
    rows = min(_ROWS, part.num_inner)
    indptr = np.asarray(part.inner_indptr[: rows + 1])
    if indptr[-1] == 0:
        return _made_up()
    return Csr.from_numpy(indptr - indptr[0], np.asarray(part.inner_indices[: indptr[-1]]), part.num_inner)


def _made_up() -> Csr:
    """Rows whose neighbours lie near, as the partitioner's order puts them."""
    rng = np.random.default_rng(0)
    near = np.arange(_ROWS)[:, None] + rng.integers(-_NEAR, _NEAR, (_ROWS, _DEGREE))
    indices = np.sort(near.clip(0, _ROWS - 1), axis=1).ravel()
    return Csr.from_numpy(np.arange(0, indices.size + 1, _DEGREE), indices.astype(np.int32), _ROWS)


def _overhead_s(config: TrainConfig) -> float:
    """An epoch of the options' model on a graph of a few nodes, in one process."""
    alone = dataclasses.replace(
        by_hand(config),
        device="cpu",
        kernel="auto" if config.kernel == "triton" else config.kernel,
        sampling_rate=1.0,
        halo_cache=False,
        class_weights=None,
        label_smoothing=0.0,
        metric=None,
        track=None,
        profile=None,
        resume=False,
        inductive=False,
    )
    with tempfile.TemporaryDirectory(prefix="bnsgcn-plan-") as name:
        folder = Path(name) / "parts"
        partition_graph(_FEW_NODES, parts=1, out=folder)
        part = open_part(folder, 0, verify=False)
        trainer = Trainer(World.single(), part, build_model(part.manifest, alone), alone)
        return _median_s(trainer.train_epoch)


def _median_s(work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(_REPEATS):
        start = time.thread_time()  # of a machine that does other things as well, its own share
        work()
        spent.append(time.thread_time() - start)
    return max(sorted(spent)[_REPEATS // 2], 1e-9)
