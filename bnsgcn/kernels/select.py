"""Which kernels a run uses: a name from the command line and the device decide.

On CPU `auto` prefers compiled, then DGL's sum, then torch alone: the order of their speed on real parts,
recorded in benchmarks/NOTES.md. On CUDA it takes Triton's, or torch's where there is no Triton. `describe`
measures those of a device, for `bnsgcn doctor`.
"""

from __future__ import annotations

import dataclasses
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import torch

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.dgl_backend import DglKernels
from bnsgcn.kernels.native.backend import CompiledKernels
from bnsgcn.kernels.native.binding import native
from bnsgcn.kernels.protocol import Kernels
from bnsgcn.kernels.torch_backend import TorchKernels
from partition.errors import UserError

KernelName = Literal["auto", "compiled", "dgl", "torch", "triton"]
_CAPABILITY = (8, 0)
"""The compute capability from which on a device has bfloat16, and Triton works."""


def select(
    name: KernelName = "auto", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Kernels:
    """The kernels for `name` on `device` and `dtype`; one instance, to be passed down.

    Raises:
        UserError: `name` asks for a backend that cannot work here; the message says why and what to use.
    """
    place = torch.device(device)
    if name not in ("auto", *_ALL):
        raise UserError(f"kernel is {name!r}, must be one of auto, {', '.join(_ALL)}; try auto")
    if name == "auto":
        plain = dtype in (torch.float32, torch.float64)
        return _fastest(place) if plain or place.type != "cpu" else TorchKernels()
    if name in ("compiled", "dgl") and place.type != "cpu":
        raise UserError(
            f"--kernel {name} works on cpu, the device is {place.type}; use --kernel torch or auto"
        )
    return _ALL[name](place)


def note_of(name: KernelName, kernels: Kernels, device: torch.device) -> str | None:
    """What to tell who asked for `auto` on a GPU and got torch's kernels, and why; None otherwise."""
    if name != "auto" or device.type != "cuda" or kernels.name != "torch":
        return None
    try:
        _triton(device)
    except UserError as error:
        return f"torch's kernels in place of Triton's: {error}"
    return None


def check_bf16(device: torch.device, option: str) -> None:
    """UserError when the device cannot compute with the bfloat16 that `option` asks for."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise UserError(f"{option} needs {_capability(device)}; leave it out")


def _capability(device: torch.device) -> str:
    needed, found = (
        ".".join(map(str, numbers)) for numbers in (_CAPABILITY, torch.cuda.get_device_capability(device))
    )
    return f"compute capability {needed}, {torch.cuda.get_device_name(device)} has {found}"


def _triton(device: torch.device) -> Kernels:
    """UserError where Triton is absent or does not work on the device."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("--kernel triton works on cuda, there is no CUDA device here; use --kernel auto")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise UserError(f"Triton needs {_capability(device)}; use --kernel torch")
    try:
        backend = importlib.import_module("bnsgcn.kernels.triton.triton_backend")
    except Exception as error:  # whatever a foreign binary package raises while it loads
        raise UserError(f"Triton cannot be imported ({error}); pip install triton") from error
    if device.type == "cpu" and not backend.INTERPRETED:
        raise UserError("--kernel triton works on cuda, the device is cpu; use --kernel auto")
    kernels: Kernels = backend.TritonKernels()
    return kernels


_Make = Callable[[torch.device], Kernels]
_ALL: dict[str, _Make] = {
    "compiled": lambda _: CompiledKernels(),
    "dgl": lambda _: DglKernels(),
    "torch": lambda _: TorchKernels(),
    "triton": _triton,
}


def _by_speed(device: torch.device) -> list[str]:
    """Names of the backends that a device may have, the fastest first."""
    return ["compiled", "dgl", "torch"] if device.type == "cpu" else ["triton", "torch"]


def _fastest(device: torch.device) -> Kernels:
    for name in _by_speed(device):
        try:
            return _ALL[name](device)
        except UserError:
            continue
    raise AssertionError("the torch backend always works")


@dataclasses.dataclass(frozen=True)
class BackendRow:
    """What is known of one backend on this machine's CPU or GPU."""

    name: str
    works: bool
    chosen: bool
    """What `auto` takes."""
    sum_ms: float | None
    """Median time of one sum, float32, 25 arcs a row x 128 columns, random columns."""
    gb_per_s: float | None
    """Gathered bytes of that sum a second."""
    note: str
    """Where it comes from, or why it does not work."""


_SAMPLE_DEGREE, _SAMPLE_COLUMNS, _SAMPLE_RUNS = 25, 128, 5


def describe(device: torch.device | str = "cpu") -> list[BackendRow]:
    """A row for each backend of the device, fastest expected first.

    On CPU it takes about a second, and as long as DGL's import.
    """
    device = torch.device(device)
    block = _sample_block(device)
    rows: list[BackendRow] = []
    for name in _by_speed(device):
        try:
            kernels = _ALL[name](device)
        except UserError as error:
            rows.append(BackendRow(name, False, False, None, None, str(error)))
            continue
        chosen = not any(row.chosen for row in rows)
        seconds = _sum_seconds(kernels, block)
        gathered = block.num_arcs * _SAMPLE_COLUMNS * 4
        rows.append(BackendRow(name, True, chosen, 1e3 * seconds, gathered / seconds / 1e9, _origin(name)))
    return rows


def copy_gb_per_s(device: torch.device | str = "cpu") -> float:
    """Bytes a second that the device copies, read and written ones: what its memory can do."""
    x = torch.ones(_sample_rows(torch.device(device)), _SAMPLE_COLUMNS, device=device)
    out = torch.empty_like(x)
    return 2 * x.numel() * 4 / median_seconds(lambda: out.copy_(x), x.device, _SAMPLE_RUNS) / 1e9


def median_seconds(compute: Callable[[], Any], device: torch.device, runs: int) -> float:
    """Median time of a computation, after one that does not count; on CUDA until the device has done it."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _origin(name: str) -> str:
    if name == "compiled":
        return native().note
    if name == "triton":
        return f"Triton {importlib.import_module('triton').__version__}"
    return "DGL's copy_u_sum" if name == "dgl" else f"torch {torch.__version__}"


def _sample_rows(device: torch.device) -> int:
    """On a GPU more than its caches hold."""
    return 20_000 if device.type == "cpu" else 500_000


def _sample_block(device: torch.device) -> Csr:
    generator, rows = torch.Generator(device).manual_seed(0), _sample_rows(device)
    columns = torch.randint(rows, (rows, _SAMPLE_DEGREE), generator=generator, device=device)
    indptr = torch.arange(rows + 1, device=device) * _SAMPLE_DEGREE
    return Csr.of(indptr, columns.view(-1), rows)


def _sum_seconds(kernels: Kernels, block: Csr) -> float:
    x = torch.ones(block.num_cols, _SAMPLE_COLUMNS, device=block.device)
    out = torch.zeros(block.num_rows, _SAMPLE_COLUMNS, device=block.device)
    return median_seconds(lambda: kernels.sum_rows(block, x, out=out), block.device, _SAMPLE_RUNS)
