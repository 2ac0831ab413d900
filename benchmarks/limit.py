"""The limit line: the bare kernels of one pruned epoch, without communication, autograd or bookkeeping.

    python -m benchmarks.limit reddit-like                two processes x one thread at once; seconds by kind

For each worker's part of a workload: the sums over the pruned inner and halo blocks, forward and backward,
at the narrower width; the dense products for the pruned rows, forward and backward, into memory that exists
already; one fused pass (norm, ReLU, dropout) per layer and direction; one fused Adam step. Nothing is
exchanged: halo rows are random numbers that are there from the start. An epoch of the runtime cannot be
faster with these kernels.

    D destination rows   C source rows   H halo slots   I, O inputs and outputs of a layer
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the runtime does; read at torch's first allocation

import torch

from benchmarks.contest import Contestant, Turns, interleave, peak_rss_bytes, python
from benchmarks.measure import Spread, machine, round_medians, table, write_record
from benchmarks.ours import environments
from benchmarks.workloads import Recipe, Skip, recipe, workload_parts
from bnsgcn.dist import World
from bnsgcn.kernels import Kernels, LayerNorm, Mask, select
from bnsgcn.kernels.protocol import Moments
from bnsgcn.local.blocks import TRAIN, BlockBuilder, LayerBlocks, whole_view
from partition.store import open_part

KINDS = ("sums", "products", "elementwise", "optimizer")
Task = tuple[str, Callable[[], Any]]


class HiddenLayer:
    """Tensors and kernels of one SAGE layer that aggregates: out = h W_self + mean(h) W_neigh."""

    def __init__(self, blocks: LayerBlocks, kernels: Kernels, inputs: int, outputs: int) -> None:
        self.kernels, self.inner, self.halo = kernels, blocks.inner, blocks.halo
        rows, sources = len(blocks.destination), len(blocks.source)
        self.narrow_first = outputs < inputs
        width = min(inputs, outputs)
        self.h, self.own = torch.randn(sources, inputs), torch.randn(rows, inputs)
        self.arrived = torch.randn(blocks.halo.csr.num_cols, width)
        self.scale = torch.rand(rows)
        self.weight_self, self.weight_neigh = torch.randn(inputs, outputs), torch.randn(inputs, outputs)
        self.grad_weight = torch.empty(inputs, outputs)
        self.out, self.grad = torch.empty(rows, outputs), torch.randn(rows, outputs)
        self.projected = torch.randn(sources, outputs) if self.narrow_first else None
        self.mean = torch.randn(rows, inputs)
        self.grad_own, self.grad_h = torch.empty(rows, inputs), torch.empty(sources, inputs)

    def _sum_forward(self) -> None:
        h = self.h if self.projected is None else self.projected
        total = self.kernels.sum_rows(self.inner.csr, h, row_scale=self.scale)
        self.kernels.sum_rows(self.halo.csr, self.arrived, row_scale=self.scale, out=total)

    def _sum_backward(self) -> None:
        grad = self.grad_own if self.projected is None else self.grad
        self.kernels.sum_rows(self.halo.transposed, grad, col_scale=self.scale)
        self.kernels.sum_rows(self.inner.transposed, grad, col_scale=self.scale)

    def forward(self) -> Iterator[Task]:
        if self.projected is not None:
            yield "products", lambda: torch.mm(self.h, self.weight_neigh, out=self.projected)
            yield "sums", self._sum_forward
        else:
            yield "sums", self._sum_forward
            yield "products", lambda: torch.mm(self.mean, self.weight_neigh, out=self.out)
        yield "products", lambda: self.out.addmm_(self.own, self.weight_self)

    def backward(self) -> Iterator[Task]:
        yield "products", lambda: torch.mm(self.own.t(), self.grad, out=self.grad_weight)
        yield "products", lambda: torch.mm(self.grad, self.weight_self.t(), out=self.grad_own)
        if self.projected is not None:
            yield "sums", self._sum_backward
            yield "products", lambda: torch.mm(self.h.t(), self.projected, out=self.grad_weight)
            yield "products", lambda: torch.mm(self.projected, self.weight_neigh.t(), out=self.grad_h)
        else:
            yield "products", lambda: torch.mm(self.mean.t(), self.grad, out=self.grad_weight)
            yield "products", lambda: torch.mm(self.grad, self.weight_neigh.t(), out=self.grad_own)
            yield "sums", self._sum_backward


class FirstLayer:
    """The linear layer on [x, precomputed mean]; its input needs no gradient."""

    def __init__(self, rows: int, kernels: Kernels, features: int, outputs: int) -> None:
        self.kernels = kernels
        self.x, self.ids = torch.randn(rows, 2 * features), torch.arange(rows)
        self.weight, self.grad_weight = torch.randn(2 * features, outputs), torch.empty(2 * features, outputs)
        self.out, self.grad, self.dropped = (
            torch.empty(rows, outputs),
            torch.randn(rows, outputs),
            torch.empty(rows, 2 * features),
        )

    def forward(self, dropout: float) -> Iterator[Task]:
        mask = Mask(self.ids, 1, dropout)
        yield "elementwise", lambda: self.kernels.dropout(self.x, mask, out=self.dropped)
        yield "products", lambda: torch.mm(self.dropped, self.weight, out=self.out)

    def backward(self) -> Iterator[Task]:
        yield "products", lambda: torch.mm(self.dropped.t(), self.grad, out=self.grad_weight)


class Between:
    """Norm, ReLU and dropout between two layers: one fused pass a direction."""

    def __init__(self, rows: int, kernels: Kernels, width: int, dropout: float) -> None:
        self.kernels, self.mask = kernels, Mask(torch.arange(rows), 1, dropout)
        self.x = torch.randn(rows, width)
        self.grad, self.out = torch.randn(rows, width), torch.empty(rows, width)
        self.norm = LayerNorm(torch.ones(width), torch.zeros(width))
        self.moments = Moments(torch.zeros(rows), torch.ones(rows))

    def _forward(self) -> None:
        self.kernels.norm_relu_dropout(self.x, self.norm, self.mask, out=self.out)

    def _backward(self) -> None:
        self.kernels.norm_relu_dropout_backward(
            self.grad, self.x, self.moments, self.norm, self.mask, out=self.out
        )

    def forward(self) -> Iterator[Task]:
        yield "elementwise", self._forward

    def backward(self) -> Iterator[Task]:
        yield "elementwise", self._backward


def epoch_tasks(
    layers: list[LayerBlocks], kernels: Kernels, features: int, classes: int, shape: Recipe
) -> list[Task]:
    """Every kernel of one epoch, in order."""
    widths = [features] + [shape.hidden] * (shape.layers - 1) + [classes]
    first = FirstLayer(len(layers[0].destination), kernels, features, shape.hidden)
    hidden = [
        HiddenLayer(blocks, kernels, widths[i], widths[i + 1]) for i, blocks in enumerate(layers) if i > 0
    ]
    between = [Between(len(blocks.source), kernels, shape.hidden, shape.dropout) for blocks in layers[1:]]
    tasks = list(first.forward(shape.dropout))
    for gap, layer in zip(between, hidden, strict=True):
        tasks += [*gap.forward(), *layer.forward()]
    for gap, layer in zip(reversed(between), reversed(hidden), strict=True):
        tasks += [*layer.backward(), *gap.backward()]
    tasks += first.backward()
    count = 2 * sum(a * b for a, b in itertools.pairwise(widths))
    weights = torch.nn.Parameter(torch.randn(count))
    weights.grad = torch.randn(count)
    optimizer = torch.optim.Adam([weights], fused=True)
    tasks.append(("optimizer", optimizer.step))
    return tasks


def run(tasks: list[Task]) -> dict[str, Any]:
    """One epoch: its seconds, in all and by kind."""
    seconds = dict.fromkeys(KINDS, 0.0)
    start = last = time.perf_counter()
    for kind, task in tasks:
        task()
        now = time.perf_counter()
        seconds[kind] += now - last
        last = now
    return {"epoch_s": last - start, **{f"{kind}_s": seconds[kind] for kind in KINDS}}


def work(options: argparse.Namespace) -> None:
    """What each of the processes does: build the pruned blocks, then take turns."""
    turns = Turns()
    torch.set_num_threads(1)
    world = World.start(backend="gloo", device="cpu")
    part = open_part(options.parts_dir, world.rank, verify=False)
    kernels = select("auto", world.device, torch.float32)
    view = whole_view(part, self_loops=True)
    shape = recipe(options.workload)
    layers = BlockBuilder(world, view, kernels, prune=True).layers(shape.layers, part.split == TRAIN)
    tasks = epoch_tasks(layers, kernels, part.manifest.num_features, part.manifest.num_classes, shape)
    rows = [len(blocks.destination) for blocks in layers]
    turns.say(event="ready", rows=rows, kernels=kernels.name)
    number = 0
    while turns.wait():
        with torch.no_grad():
            turns.say(epoch=number, **run(tasks), peak_rss_bytes=peak_rss_bytes())
        number += 1
    world.close()


def limit_contestant(workload: str, parts_dir: Path, parts: int = 2) -> Contestant:
    """The limit line as a contestant beside others."""
    command = python("benchmarks.limit", workload, "--parts-dir", str(parts_dir), "--worker")
    return Contestant("limit", [command] * parts, environments(parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", nargs="*", default=["reddit-like", "products-like"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--parts-dir", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        options.workload = options.workload[0]
        work(options)
        return
    before, raw, lines = machine(), {}, []
    for name in options.workload:
        contestant = limit_contestant(name, workload_parts(name, 2, options.shared))
        try:
            contestant.wait_ready()
            rounds = interleave([contestant], rounds=options.rounds, epochs=options.epochs, warm_up=2)[
                "limit"
            ]
        finally:
            contestant.close()
        raw[name] = {"ready": contestant.ready, "rounds": rounds}
        cells = [
            Spread.of(round_medians(rounds, key)).show(3) for key in ("epoch_s", *(f"{k}_s" for k in KINDS))
        ]
        lines.append([name, *cells])
    write_record(
        "limit",
        claim="The bare kernels of a pruned fp32 epoch: with them, no epoch here is shorter.",
        body=table(["workload, 2 x 1 thread", "epoch s", *(f"{kind} s" for kind in KINDS)], lines),
        raw=raw,
        does_not_show="communication, and better kernels than these.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
