"""Kernels side by side on real parts: sums, attention and elementwise passes.

    python -m benchmarks.kernels                       one thread, both workloads; about four minutes
    python -m benchmarks.kernels --rounds 5 --skip-dgl

Every contender computes the same thing in turn, round after round in one process; figures are medians of the
rounds. Blocks are those of part 0 of 2 of each workload, in the partitioner's order, forward and transposed.
Elementwise passes are compared with the torch operations that a user would write. Our kernels take memory
that the process has had before (see bnsgcn.kernels.pool), torch's take what the C library gives: `copy`
shows the difference.

    N rows   F columns
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the runtime does; read at torch's first allocation

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Spread, machine, table, write_record
from benchmarks.workloads import RECIPES, Skip, recipe, workload_parts
from bnsgcn.kernels import Block, Csr, Kernels, LayerNorm, Mask, autograd, select
from partition.store import Part, open_part

WORKLOADS = ("reddit-like", "products-like")
ELEMENTWISE_SHAPE = 122_000, 128
HEADS, SLOPE = 4, 0.2
Contenders = dict[str, Callable[[], Any]]


def race(contenders: Contenders, rounds: int) -> dict[str, Spread]:
    """Milliseconds of each contender; all take a turn in every round, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, compute in contenders.items():
            start = time.perf_counter()
            result = compute()
            took = time.perf_counter() - start
            del result
            if turn:
                times[name].append(1e3 * took)
    return {name: Spread.of(values) for name, values in times.items()}


def backends(skip_dgl: bool) -> dict[str, Kernels]:
    """Every backend that works here."""
    made: dict[str, Kernels] = {}
    for name in ("compiled", "dgl", "torch"):
        if name == "dgl" and skip_dgl:
            continue
        try:
            made[name] = select(name)
        except ValueError as reason:
            print(f"without {name}: {reason}", file=sys.stderr)
    return made


def blocks(part: Part, kernels: Kernels) -> dict[str, Block]:
    """Inner and halo adjacency of a part."""
    rows = part.inner_indptr.size - 1
    inner = Csr.from_numpy(part.inner_indptr, part.inner_indices, rows)
    halo = Csr.from_numpy(part.halo_indptr, part.halo_indices, part.halo_ids.size)
    return {"inner": Block(inner, kernels), "halo": Block(halo, kernels)}


def wide_ids(csr: Csr) -> Csr:
    """The same block with int64 ids, whatever fits."""
    return Csr(csr.indptr.long(), csr.indices.long(), csr.num_rows, csr.num_cols)


def sum_contenders(csr: Csr, x: Tensor, made: dict[str, Kernels]) -> Contenders:
    wide = wide_ids(csr)

    def against(kernels: Kernels, block: Csr) -> Callable[[], Tensor]:
        return lambda: kernels.sum_rows(block, x)

    contenders = {name: against(kernels, csr) for name, kernels in made.items()}
    contenders["torch int64"] = against(made["torch"], wide)
    return contenders


def attention_contenders(block: Block, width: int, made: dict[str, Kernels]) -> Contenders:
    rows, columns = block.csr.num_rows, block.csr.num_cols
    scores = [torch.randn(count, HEADS, requires_grad=True) for count in (rows, columns)]
    x = torch.randn(columns, HEADS, width // HEADS, requires_grad=True)
    shift = torch.full((rows, HEADS), 4.0)
    grads = torch.randn(rows, HEADS, width // HEADS), torch.randn(rows, HEADS)

    def against(kernels: Kernels) -> Callable[[], Any]:
        mine = Block(block.csr, kernels, block.transposed)

        def both_ways() -> Any:
            results = autograd.attention_sum(mine, scores[0], scores[1], x, shift, SLOPE)
            return torch.autograd.grad(results, [*scores, x], grads)

        return both_ways

    return {name: against(kernels) for name, kernels in made.items() if name != "dgl"}


def elementwise_contenders(kernels: Kernels, portable: Kernels) -> dict[str, Contenders]:
    """Name of a pass -> its contenders; "ours" is the first."""
    rows, width = ELEMENTWISE_SHAPE
    x, grad, ids = torch.randn(rows, width), torch.randn(rows, width), torch.randperm(rows)
    weight, bias = torch.rand(width) + 0.5, torch.randn(width)
    leaf = torch.randn(rows, width, requires_grad=True)
    leaves = [leaf, weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    mask = Mask(ids, 7, 0.5)

    def fused(backend: Kernels) -> Callable[[], Any]:
        def both_ways() -> Any:
            result = autograd.norm_relu_dropout(backend, leaf, LayerNorm(*leaves[1:]), mask)
            return torch.autograd.grad(result, leaves, grad)

        return both_ways

    def composed() -> Any:
        normed = F.layer_norm(leaf, (width,), leaves[1], leaves[2])
        return torch.autograd.grad(F.dropout(torch.relu(normed), 0.5), leaves, grad)

    def fused_forward(backend: Kernels) -> Callable[[], Any]:
        return lambda: backend.norm_relu_dropout(x, LayerNorm(weight, bias), mask)

    out = torch.empty_like(x)
    return {
        "copy into memory that is there": {"ours": lambda: out.copy_(x)},
        "copy": {"ours": x.clone},
        "dropout, forward": {
            "ours": lambda: kernels.dropout(x, mask),
            "torch backend": lambda: portable.dropout(x, mask),
            "torch operations": lambda: F.dropout(x, 0.5),
        },
        "norm + ReLU + dropout, forward": {
            "ours": fused_forward(kernels),
            "torch backend": fused_forward(portable),
            "torch operations": lambda: F.dropout(torch.relu(F.layer_norm(x, (width,), weight, bias)), 0.5),
        },
        "norm + ReLU + dropout, both ways": {
            "ours": fused(kernels),
            "torch backend": fused(portable),
            "torch operations": composed,
        },
        "gather of all rows": {
            "ours": lambda: kernels.gather_rows(x, ids),
            "torch operations": lambda: x.index_select(0, ids),
        },
        "pack as int8": {
            "ours": lambda: kernels.pack_int8(x, ids, 5),
            "torch backend": lambda: portable.pack_int8(x, ids, 5),
        },
    }


def race_blocks(
    names: list[str], made: dict[str, Kernels], rounds: int, shared: Path | None
) -> dict[str, Any]:
    """Milliseconds of sums and of attention, keyed by workload, block, direction and width."""
    found: dict[str, Any] = {"sums": {}, "attention": {}}
    first = next(iter(made.values()))
    for name in names:
        part = open_part(workload_parts(name, 2, shared), 0, verify=False)
        widths = (recipe(name).hidden, part.manifest.num_classes)
        for kind, block in blocks(part, first).items():
            for direction, csr in (("forward", block.csr), ("backward", block.transposed)):
                for width in widths:
                    title = f"{name} {kind} {direction}, {csr.num_arcs:,} arcs x {width}"
                    x = torch.randn(csr.num_cols, width)
                    found["sums"][title] = race(sum_contenders(csr, x, made), rounds)
            if kind == "inner":
                shape = f"{block.csr.num_arcs:,} arcs x {HEADS} heads x {widths[0] // HEADS}"
                title = f"{name} inner both ways, {shape}"
                found["attention"][title] = race(
                    attention_contenders(block, widths[0], made), max(3, rounds // 4)
                )
    return found


def race_elementwise(made: dict[str, Kernels], rounds: int) -> dict[str, dict[str, Spread]]:
    first = next(iter(made.values()))
    return {
        title: race(contenders, rounds)
        for title, contenders in elementwise_contenders(first, made["torch"]).items()
    }


def plain(found: Any) -> Any:
    """Spreads as dictionaries, for JSON."""
    if isinstance(found, Spread):
        return vars(found)
    return {key: plain(value) for key, value in found.items()} if isinstance(found, dict) else found


def show(races: dict[str, dict[str, Spread]], first: str) -> str:
    """A table: one race a row, one contender a column, medians in ms with quartiles."""
    names = list(dict.fromkeys(name for row in races.values() for name in row))
    cells = [
        [title, *(row[name].show(1) if name in row else "-" for name in names)]
        for title, row in races.items()
    ]
    return table([first, *(f"{name} ms" for name in names)], cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "workload", nargs="*", default=list(WORKLOADS), metavar="NAME", help=", ".join(RECIPES)
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-dgl", action="store_true", help="do not import DGL")
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before = machine()
    made = backends(options.skip_dgl)
    raw = race_blocks(options.workload, made, options.rounds, options.shared)
    raw["elementwise"] = race_elementwise(made, options.rounds)
    rows, width = ELEMENTWISE_SHAPE
    headings = {
        "sums": "block, direction, size",
        "attention": "block, size",
        "elementwise": f"pass over {rows:,} x {width}",
    }
    body = "\n\n".join(show(raw[key], heading) for key, heading in headings.items())
    write_record(
        "kernels",
        claim="Our compiled sums are as fast as DGL's or faster on the parts' blocks; dropout costs a copy.",
        body=body,
        raw=plain(raw),
        does_not_show=f"more than {options.threads} thread(s), other processors, other node orders.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
