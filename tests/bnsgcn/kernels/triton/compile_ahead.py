"""Compile every kernel for GPUs that are not here, down to their machine code.

    python -m tests.bnsgcn.kernels.triton.compile_ahead 80 90             compute capabilities
    python -m tests.bnsgcn.kernels.triton.compile_ahead --quick 80 90     every kernel at least once

Prints what was compiled, a line each. The backend is called with tensors on CPU, so that kernels are
specialised as they are in a run, but instead of running they are compiled; Triton brings the assembler along.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bnsgcn.kernels import Block, Csr, LayerNorm, Mask, autograd


def driver_for(capability: int) -> Any:
    """What Triton asks about the device, answered for one that is not here."""
    from triton.backends.compiler import GPUTarget

    class Absent:
        def get_current_target(self) -> Any:
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self) -> int:
            return capability  # compiled kernels are kept by device

        def get_current_stream(self, device: int) -> int:
            return 0

    return Absent()


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, to which registers are spilled."""
    from triton.backends import nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        shown = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", shown.stdout)
    assert found, shown.stdout
    return int(found[1]), int(found[2])


def block_with_long_rows() -> Csr:
    """Rows of 0 to 300 arcs, so that some are split."""
    degrees = torch.tensor([0, 3, 300, 20, 290])
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), degrees.cumsum(0)])
    return Csr.of(ends, torch.arange(int(ends[-1])) % 32, 32)


def sums(kernels: Any, csr: Csr, dtype: torch.dtype, features: int) -> None:
    x = torch.ones(csr.num_cols, features, dtype=dtype)
    scales = {"row_scale": x[: csr.num_rows, 0].contiguous(), "col_scale": x[:, 0].contiguous()}
    weighted = dataclasses.replace(csr, weights=torch.ones(csr.num_arcs))
    kernels.sum_rows(csr, x)
    kernels.sum_rows(
        csr, x, row_scale=scales["row_scale"], out=torch.ones(csr.num_rows, features, dtype=dtype)
    )
    kernels.sum_rows(weighted, x, **scales)


def packing(kernels: Any, dtype: torch.dtype, features: int) -> None:
    x, index, scale = torch.ones(32, features, dtype=dtype), torch.arange(20), torch.ones(20, dtype=dtype)
    rows = kernels.gather_rows(x, index, scale=scale)
    kernels.gather_rows(x, index, out=torch.empty(20, features, dtype=torch.bfloat16))
    kernels.scatter_add_rows(x, index, rows, scale=scale)
    codes, steps = kernels.pack_int8(x, index, 1 << 40)
    kernels.pack_int8(x, None, 1, 7)
    kernels.scatter_add_rows(x, index, codes, scale=steps)


def elementwise(kernels: Any, dtype: torch.dtype, features: int) -> None:
    x = torch.ones(50, features, dtype=dtype, requires_grad=True)
    weights = [torch.ones(features, dtype=dtype, requires_grad=True) for _ in range(2)]
    for p, norm in ((0.5, LayerNorm(*weights)), (0.0, LayerNorm())):
        mask = Mask(torch.arange(50), 7, p)
        autograd.norm_relu_dropout(kernels, x, norm, mask).sum().backward()
    autograd.relu_dropout(kernels, x, mask).sum().backward()
    autograd.dropout(kernels, x, Mask(torch.arange(50), 7, 0.5))


def attention(kernels: Any, csr: Csr, dtype: torch.dtype, heads: int, width: int) -> None:
    shapes = (csr.num_rows, heads), (csr.num_cols, heads), (csr.num_cols, heads, width)
    leaves = [torch.ones(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    shift = kernels.row_max(csr, leaves[1].detach())
    block = Block(csr, kernels)
    total, weight = autograd.attention_sum(block, leaves[0], leaves[1], leaves[2], shift, 0.2)
    (total.sum() + weight.sum()).backward()


def call_everything(kernels: Any, csr: Csr, dtype: torch.dtype, features: int) -> None:
    sums(kernels, csr, dtype, features)
    attention(kernels, csr, dtype, 4 if features > 4 else 1, max(1, features // 4))
    packing(kernels, dtype, features)
    elementwise(kernels, dtype, features)


def call_in_every_way(kernels: Any) -> None:
    """Number formats, widths that vectors fit and others, one column, ids and places of 64 bits."""
    from bnsgcn.kernels.triton import tiles

    csr = block_with_long_rows()
    long_ids = dataclasses.replace(csr, indptr=csr.indptr.long(), indices=csr.indices.long())
    for dtype, features in itertools.product((torch.float32, torch.bfloat16), (128, 47)):
        call_everything(kernels, csr, dtype, features)
    call_everything(kernels, csr, torch.float32, 1)
    call_everything(kernels, long_ids, torch.float64, 33)
    with mock.patch.object(tiles, "INT32_MAX", 0):
        call_everything(kernels, csr, torch.float32, 128)


def main(capabilities: list[int], *, quick: bool) -> None:
    import triton

    from bnsgcn.kernels.triton import tiles, triton_backend

    compiled: dict[tuple[str, int], Any] = {}

    def compile_only(
        kernel: Any, programs: tuple[int, ...], *given: Any, tile: tiles.Tile, **constants: Any
    ) -> None:
        for capability in capabilities:
            triton.runtime.driver.set_active(driver_for(capability))
            options = {"num_warps": tile.warps, "enable_fp_fusion": False}
            made = kernel.warmup(*given, grid=programs, **options, **constants)
            compiled.setdefault((made.hash, capability), (kernel.__name__, made))

    kernels = triton_backend.TritonKernels()
    with mock.patch.object(tiles, "launch", compile_only):
        if quick:
            call_everything(kernels, block_with_long_rows(), torch.float32, 128)
            sums(kernels, block_with_long_rows(), torch.bfloat16, 128)
        else:
            call_in_every_way(kernels)
    for (_, capability), (name, made) in compiled.items():
        registers, stack = resources(made.asm["cubin"])
        print(f"{name} sm_{capability}: {registers} registers, {stack} bytes of stack")


if __name__ == "__main__":
    os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp())
    words = sys.argv[1:]
    main([int(word) for word in words if word != "--quick"], quick="--quick" in words)
