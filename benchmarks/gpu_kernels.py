"""Kernels on the GPU: every pass of every backend beside a copy of the device, its result beside torch's.

GB/s are bytes that the pass must move at least once in gathered rows: of a sum the rows of all arcs, of an
elementwise pass what is read and written. A sum may beat the copy, as rows that are gathered again come from
the cache. Blocks are power-law graphs of communities, in an order that keeps communities together.

    R rows   E arcs   F features
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu_section import Options, Section, cuda, device_ms
from benchmarks.measure import table
from benchmarks.workloads import Skip
from bnsgcn.kernels import Block, Csr, Kernels, LayerNorm, Mask, autograd, select
from bnsgcn.kernels.select import copy_gb_per_s
from partition.errors import UserError

QUICK = {"reddit-like": (60_000, 490), "products-like": (600_000, 50)}
FULL = {"reddit-like": (233_000, 490), "products-like": (2_400_000, 50)}
"""Rows and mean degree."""
WIDTHS = 47, 128, 256
HEADS, SLOPE = 4, 0.2
_COMMUNITY = 2_000


@dataclasses.dataclass(frozen=True)
class Figure:
    """One pass of one backend."""

    what: str
    backend: str
    ms: float
    gb_per_s: float
    error: float | None
    """Largest difference from the first backend's float32 result, over its largest entry."""


def power_law_block(rows: int, degree: int, device: torch.device) -> Csr:
    """Degrees as of a power law with exponent 2.5; four of five arcs stay in the community."""
    generator = torch.Generator(device).manual_seed(0)
    share = torch.rand(rows, generator=generator, device=device).clamp_(min=1e-7)
    drawn = share.pow(-1 / 1.5)
    degrees = (drawn * (degree / drawn.mean())).clamp_(max=rows / 4).to(torch.int64)
    indptr = torch.zeros(rows + 1, dtype=torch.int64, device=device)
    torch.cumsum(degrees, 0, out=indptr[1:])
    arcs = int(indptr[-1])
    row = torch.repeat_interleave(torch.arange(rows, device=device), degrees, output_size=arcs)
    column = torch.randint(rows, (arcs,), generator=generator, device=device)
    near = (row // _COMMUNITY * _COMMUNITY + column % _COMMUNITY).clamp_(max=rows - 1)
    stays = torch.rand(arcs, generator=generator, device=device) < 0.8
    return Csr.of(indptr, torch.where(stays, near, column), rows)


def backends(device: torch.device) -> dict[str, Kernels]:
    """Torch's kernels and Triton's; Skip where there is no Triton."""
    try:
        return {name: select(name, device) for name in ("torch", "triton")}  # type: ignore[arg-type]
    except UserError as reason:
        raise Skip(str(reason)) from reason


@dataclasses.dataclass(frozen=True)
class Pass:
    """What one backend is timed with."""

    what: str
    moved_bytes: float
    compute: Callable[[Kernels], Tensor]


def sums(csr: Csr, block: Block, name: str, dtypes: tuple[torch.dtype, ...]) -> list[Pass]:
    found = []
    for width, dtype in itertools.product(WIDTHS, dtypes):
        x = torch.randn(csr.num_cols, width, device=csr.device).to(dtype)
        for direction, given in (("", csr), (", transposed", block.transposed)):
            found.append(
                Pass(
                    f"{name} sum{direction}, {csr.num_arcs:,} arcs x {width} {str(dtype)[6:]}",
                    csr.num_arcs * width * dtype.itemsize,
                    lambda kernels, given=given, x=x: kernels.sum_rows(given, x),  # type: ignore[misc]
                )
            )
    return found


def attention(block: Block, name: str) -> Pass:
    csr, width = block.csr, 128 // HEADS
    scores = [torch.randn(n, HEADS, device=csr.device) for n in (csr.num_rows, csr.num_cols)]
    x = torch.randn(csr.num_cols, HEADS, width, device=csr.device)
    shift = torch.full((csr.num_rows, HEADS), 6.0, device=csr.device)
    grads = torch.randn(csr.num_rows, HEADS, width, device=csr.device), torch.randn_like(shift)

    def both_ways(kernels: Kernels) -> Tensor:
        leaves = [leaf.requires_grad_() for leaf in (*scores, x)]
        mine = Block(csr, kernels, block.transposed)
        results = autograd.attention_sum(mine, leaves[0], leaves[1], leaves[2], shift, SLOPE)
        return torch.autograd.grad(results, leaves, grads)[2]

    # forward, destinations and sources each gather a row of every arc
    return Pass(
        f"{name} attention both ways, {csr.num_arcs:,} arcs x {HEADS} x {width}",
        3 * csr.num_arcs * 128 * 4,
        both_ways,
    )


def passes_over_rows(rows: int, device: torch.device) -> list[Pass]:
    """Norm, dropout, gather, scatter and int8 on [rows, 128] float32."""
    x = torch.randn(rows, 128, device=device)
    mask = Mask(torch.randperm(rows, device=device), 7, 0.5)
    norm = LayerNorm(torch.rand(128, device=device), torch.rand(128, device=device))
    index = torch.randperm(rows, device=device)
    matrix = rows * 128 * 4

    def norm_both_ways(kernels: Kernels) -> Tensor:
        _, moments = kernels.norm_relu_dropout(x, norm, mask)
        return kernels.norm_relu_dropout_backward(x, x, moments, norm, mask)[0]

    def scatter(kernels: Kernels) -> Tensor:
        out = torch.zeros_like(x)
        kernels.scatter_add_rows(out, index, x)
        return out

    title = f"{rows:,} x 128"
    return [
        Pass(f"norm + ReLU + dropout both ways, {title}", 5 * matrix, norm_both_ways),
        Pass(f"dropout, {title}", 2 * matrix, lambda kernels: kernels.dropout(x, mask)),
        Pass(f"gather, {title}", 2 * matrix, lambda kernels: kernels.gather_rows(x, index)),
        Pass(f"scatter-add, {title}", 4 * matrix, scatter),
        Pass(f"pack as int8, {title}", 1.25 * matrix, lambda kernels: kernels.pack_int8(x, index, 3)[0]),
    ]


def figures(each: Pass, made: dict[str, Kernels], rounds: int, failed: list[str]) -> list[Figure]:
    """The pass with every backend; one that fails, or has no memory for it, is told of in `failed`."""
    found, wanted = [], None
    for name, kernels in made.items():
        try:
            result = each.compute(kernels).float()
            ms = device_ms(lambda kernels=kernels: each.compute(kernels), rounds).median  # type: ignore[misc]
        except Exception as error:
            torch.cuda.empty_cache()
            first = (str(error).splitlines() or [""])[0]
            failed.append(f"{each.what} by {name}: {type(error).__name__}: {first}")
            continue
        error_of = None if wanted is None else float((result - wanted).abs().max() / wanted.abs().max())
        wanted = result if wanted is None else wanted
        found.append(Figure(each.what, name, ms, each.moved_bytes / ms / 1e6, error_of))
        if error_of is not None and not error_of < 0.05:
            failed.append(f"{each.what} by {name}: differs by {error_of:.1e}")
    return found


def measure(options: Options) -> Section:
    """The section."""
    device = cuda()
    made, copied = backends(device), copy_gb_per_s(device)
    rounds, sizes = (5, QUICK) if options.quick else (15, FULL)
    found: list[Figure] = []
    failed: list[str] = []
    for name, (rows, degree) in sizes.items():
        csr = power_law_block(rows, degree, device)
        block = Block(csr, made["torch"])
        for each in sums(csr, block, name, (torch.float32, torch.bfloat16)):
            found += figures(each, made, rounds, failed)
        found += figures(attention(block, name), made, min(rounds, 3), failed)
    for each in passes_over_rows(2_000_000, device):
        found += figures(each, made, rounds, failed)
    lines = [
        [f.what, f.backend, f"{f.ms:.3f}", f"{f.gb_per_s:,.0f}", f"{f.gb_per_s / copied:.2f}",
         "-" if f.error is None else f"{f.error:.1e}"]
        for f in found
    ]  # fmt: skip
    heading = ["pass", "kernels", "ms", "GB/s", "of a copy", "differs by"]
    body = f"A copy: {copied:,.0f} GB/s, read and written bytes.\n\n{table(heading, lines)}"
    raw: dict[str, Any] = {"copy_gb_per_s": copied, "passes": [dataclasses.asdict(f) for f in found]}
    if options.tune:
        tried = tune(sizes["products-like"], made["triton"], device)
        raw["tiles"] = tried
        body += f"\n\n{table(['width', 'bytes', 'tile', 'ms'], tried)}"
    return Section(title="Kernels", body=body, raw=raw, failed=failed)


def tune(size: tuple[int, int], kernels: Kernels, device: torch.device) -> list[list[Any]]:
    """Row sums with other tiles: of each width the recorded one, then the three fastest."""
    csr, rows = power_law_block(*size, device), []
    for dtype, width in itertools.product((torch.float32, torch.bfloat16), (16, 32, 64, 128, 256)):
        x = torch.randn(csr.num_cols, width, device=device).to(dtype)
        recorded, *tried = [(sum_ms(kernels, csr, x, tile), tile) for tile in candidates(width, dtype)]
        for ms, tile in [recorded, *sorted(tried, key=lambda one: one[0])[:3]]:
            shown = f"{tile.rows} rows x {tile.arcs} arcs, {tile.warps} warps"
            rows.append([width, dtype.itemsize, shown, round(ms, 3)])
    return rows


def candidates(width: int, dtype: torch.dtype) -> list[Any]:
    """The recorded tile, and others that give a lane 8 to 32 numbers."""
    from bnsgcn.kernels.triton import tiles

    others = itertools.product((1, 2, 4, 8, 16, 32, 64), (2, 4, 8), (2, 4))
    fitting = [each for each in others if 8 <= each[0] * each[1] * width / (32 * each[2]) <= 32]
    return [tiles.sum_tile(width, dtype), *(tiles.Tile(r, a, width, warps) for r, a, warps in fitting)]


def sum_ms(kernels: Kernels, csr: Csr, x: Tensor, tile: Any) -> float:
    """A sum with this tile."""
    from bnsgcn.kernels.triton import tiles

    with mock.patch.object(tiles, "sum_tile", return_value=tile):
        return device_ms(lambda: kernels.sum_rows(csr, x), 3).median
