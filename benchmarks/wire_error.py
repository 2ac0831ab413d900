"""Error of the aggregate against bytes: number formats on the wire, with all rows and with a share of them.

    python -m benchmarks.wire_error                        all graphs, 4 parts by METIS and at random
    python -m benchmarks.wire_error --graphs facebook-pages

As in variance.py one process trains on the whole graph and what layer 1 would exchange is kept; the halo's
rows then go through the runtime's own formats and importance draws, so that all see the same h. Bytes are
those of a row on the wire times the rate, over a row of fp32.

    H halo slots   N nodes   F features
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy import BASE, parse_cut
from benchmarks.graphs import reduced_source
from benchmarks.measure import machine, table, write_record
from benchmarks.variance import CUTS, GRAPHS, SETTLED, FloatArray, Side, activations, sides_of, slot_scale
from benchmarks.workloads import Skip, parts_folder
from bnsgcn.config import WireDtype
from bnsgcn.exchange.wire import Wire
from bnsgcn.kernels import random_bits, select
from bnsgcn.plan.bytes import row_bytes

CHOICES: tuple[tuple[WireDtype, float], ...] = (
    *(("bf16", 1.0), ("int8", 1.0), ("int4", 1.0)),
    *(("int8", 0.55), ("fp32", 0.15)),
    *(("int4", 0.5), ("int8", 0.28)),
    *(("int4", 0.1), ("int8", 0.055)),
)
"""Format and rate; from the third on, those in a row of this text have about the same bytes."""
EVERY = 3
"""Of the epochs that are looked at."""


def error(sides: list[Side], history: list[FloatArray], dtype: WireDtype, rate: float) -> float:
    """Relative error of the aggregate, mean over epochs."""
    wire = Wire(dtype, select("auto", torch.device("cpu"), torch.float32))
    found = []
    for epoch in range(SETTLED, len(history), EVERY):
        h = history[epoch]
        key = random_bits.key(0, epoch, 1, random_bits.Stream.FEATURE_ROUNDING)
        received = wire.unpack(wire.pack(torch.from_numpy(h), None, key), torch.float32, h.shape[1]).numpy()
        wrong = whole = 0.0
        for side in sides:
            fresh, estimate = h[side.ids], received[side.ids]
            if rate < 1:
                scale = slot_scale(side, "importance", rate, epoch).astype(np.float32)
                estimate = estimate * scale[:, None]
            wrong += float(np.square(side.halo @ (estimate - fresh)).sum())
            whole += float(np.square(side.inner @ h + side.halo @ fresh).sum())
        found.append((wrong / whole) ** 0.5)
    return statistics.fmean(found)


def study(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One line per graph, cut, format and rate."""
    lines = []
    for graph in options.graphs:
        source = reduced_source(graph, options.shared)
        history = activations(source, BASE.dropout, options.epochs)
        for cut in options.cuts:
            method, parts = parse_cut(cut)
            sides = sides_of(parts_folder(source, parts, method=method))
            for dtype, rate in CHOICES:
                share = rate * row_bytes(dtype, BASE.hidden, BASE) / row_bytes("fp32", BASE.hidden, BASE)
                line = {"graph": graph, "cut": cut, "dtype": dtype, "rate": rate, "bytes": share}
                lines.append(line | {"error": error(sides, history, dtype, rate)})
                print(lines[-1], file=sys.stderr, flush=True)
    return lines


def rows_of(lines: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each format and rate, a column for each graph and cut."""
    rows = []
    for dtype, rate in CHOICES:
        of = [line for line in lines if (line["dtype"], line["rate"]) == (dtype, rate)]
        rows.append([dtype, f"{rate:g}", f"{of[0]['bytes']:.3f}", *(f"{line['error']:.4f}" for line in of)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS))
    parser.add_argument("--cuts", nargs="*", default=list(CUTS), metavar="METHOD:PARTS")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--shared", type=Path, default=None)
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(1)
    lines = study(options)
    cells = dict.fromkeys(f"{line['graph']}, {line['cut']}" for line in lines)
    write_record(
        "wire_error",
        claim="Error of the first hidden aggregate against bytes, by number format and share of rows sent.",
        body=table(["format", "rate", "bytes of fp32's", *cells], rows_of(lines)),
        raw=lines,
        does_not_show="gradients, deeper layers, other widths than 32, and what such an error does to the "
        "score (see accuracy.md). Rows are drawn by importance.",
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
