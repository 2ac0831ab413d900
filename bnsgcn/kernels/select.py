"""Which kernels a run uses: a name from the command line and the device decide.

On CPU `auto` prefers compiled, then DGL's sum, then torch alone: the order of their speed on real parts,
recorded in benchmarks/NOTES.md. `describe` measures the three here, for `bnsgcn doctor`.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.dgl_backend import DglKernels
from bnsgcn.kernels.native.backend import CompiledKernels
from bnsgcn.kernels.native.binding import native
from bnsgcn.kernels.protocol import Kernels
from bnsgcn.kernels.torch_backend import TorchKernels
from partition.errors import UserError

KernelName = Literal["auto", "compiled", "dgl", "torch"]
_BY_SPEED: dict[str, Callable[[], Kernels]] = {
    "compiled": CompiledKernels,
    "dgl": DglKernels,
    "torch": TorchKernels,
}
_SAMPLE_ROWS, _SAMPLE_DEGREE, _SAMPLE_COLUMNS, _SAMPLE_RUNS = 20_000, 25, 128, 5


def select(
    name: KernelName = "auto", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Kernels:
    """The kernels for `name` on `device` and `dtype`; one instance, to be passed down.

    Raises:
        UserError: `name` asks for a backend that cannot work here; the message says why and what to use.
    """
    place = torch.device(device).type
    if name not in ("auto", *_BY_SPEED):
        raise UserError(f"kernel is {name!r}, must be one of auto, compiled, dgl, torch; try auto")
    if name == "auto":
        return _fastest() if place == "cpu" and dtype in (torch.float32, torch.float64) else TorchKernels()
    if name != "torch" and place != "cpu":
        raise UserError(f"--kernel {name} works on cpu, the device is {place}; use --kernel torch or auto")
    return _BY_SPEED[name]()


def _fastest() -> Kernels:
    for make in _BY_SPEED.values():
        try:
            return make()
        except UserError:
            continue
    raise AssertionError("the torch backend always works")


@dataclasses.dataclass(frozen=True)
class BackendRow:
    """What is known of one backend on this machine's CPU."""

    name: str
    works: bool
    chosen: bool
    """What `auto` takes."""
    sum_ms: float | None
    """Median time of one sum, float32, 500,000 arcs x 128 columns, random columns, all threads."""
    note: str
    """Where it comes from, or why it does not work."""


def describe() -> list[BackendRow]:
    """A row for each backend, fastest expected first; takes about a second, and as long as DGL's import."""
    block = _sample_block()
    rows: list[BackendRow] = []
    for name, make in _BY_SPEED.items():
        try:
            kernels = make()
        except UserError as error:
            rows.append(BackendRow(name, False, False, None, str(error)))
            continue
        chosen = not any(row.chosen for row in rows)
        rows.append(BackendRow(name, True, chosen, _median_ms(kernels, block), _origin(name)))
    return rows


def _origin(name: str) -> str:
    if name == "compiled":
        return native().note
    return "DGL's copy_u_sum" if name == "dgl" else f"torch {torch.__version__}"


def _sample_block() -> Csr:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(_SAMPLE_ROWS, (_SAMPLE_ROWS, _SAMPLE_DEGREE), generator=generator)
    return Csr.of(torch.arange(_SAMPLE_ROWS + 1) * _SAMPLE_DEGREE, columns.view(-1), _SAMPLE_ROWS)


def _median_ms(kernels: Kernels, block: Csr) -> float:
    x = torch.ones(block.num_cols, _SAMPLE_COLUMNS)
    out = torch.zeros(block.num_rows, _SAMPLE_COLUMNS)
    kernels.sum_rows(block, x, out=out)
    times = []
    for _ in range(_SAMPLE_RUNS):
        start = time.perf_counter()
        kernels.sum_rows(block, x, out=out)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
