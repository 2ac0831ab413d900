"""Sampling error of the aggregate against the rate: uniform, importance and cached draws, same activations.

    python -m benchmarks.variance                        all graphs, 4 parts by METIS and at random
    python -m benchmarks.variance --graphs amazon-computers --rates 0.1
    python -m benchmarks.variance --report               the tables and the plot again, from the record

One process trains GraphSAGE on the whole graph; what layer 1 would exchange, h after norm, ReLU and
dropout, is kept for every epoch. For the parts of a cut the halo's share of the mean aggregate is then
computed from each kind of draw (the runtime's own functions), so all kinds see the same h. The error is
|estimate - exact| / |exact|, Frobenius norms of the whole aggregate over all parts, mean over the epochs
after the tenth. Equal rates mean equal bytes. A second table says, from the parts alone, which slots
uniform draws' error comes from.

    I inner rows of a part   H halo slots   N nodes   F features
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.accuracy import BASE, parse_cut
from benchmarks.error_pictures import variance_picture
from benchmarks.graphs import reduced_source
from benchmarks.measure import RESULTS, machine, table, write_record
from benchmarks.pictures import save
from benchmarks.workloads import Skip, parts_folder
from bnsgcn.dist import World
from bnsgcn.exchange.sampling import ListDraw, draw_systematic, draw_uniform, inclusion_probabilities
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.store import Part, open_part, read_manifest

GRAPHS = ("amazon-computers", "facebook-pages", "debian12-deps", "debian12-tags")
CUTS = ("metis:4", "random:4")
RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
KINDS = ("uniform", "importance", "cache")
SETTLED = 10
HEAVIEST = (0.001, 0.01, 0.1)
"""Shares of the slots."""
JUDGED_RATE = 0.1
FloatArray = np.ndarray[Any, np.dtype[np.float32]]


def activations(source: str, dropout: float, epochs: int) -> list[FloatArray]:
    """What layer 1 reads in each epoch of a training in one process: [N, F] in the graph's order."""
    folder = parts_folder(source, 1)
    part = open_part(folder, 0, verify=False)
    config = dataclasses.replace(BASE, dropout=dropout, prune=False)
    model = build_model(part.manifest, config)
    trainer = Trainer(World.single(), part, model, config)
    kept: list[FloatArray] = []

    def keep(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
        in_order = np.empty(tuple(output.shape), np.float32)
        in_order[part.node_ids] = output.detach().numpy()
        kept.append(in_order)

    model.get_submodule("between.0").register_forward_hook(keep)
    for _ in range(epochs):
        trainer.train_epoch()
    return kept


@dataclasses.dataclass(frozen=True)
class Side:
    """One part as a reader.

    inner [I, N], halo [I, H]: rows of the mean aggregate, self loop included. ids: original node of each
    slot, [H]. weight: importance of each slot, [H]. splits: slots by owner, [P + 1].
    """

    reader: int
    inner: sp.csr_matrix
    halo: sp.csr_matrix
    ids: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]
    splits: np.ndarray[Any, Any]


def side_of(part: Part, originals: np.ndarray[Any, Any], nodes: int) -> Side:
    """The part's matrices; `originals` are the original ids by global id."""
    rows, slots = part.num_inner, part.num_halo
    mean = sp.diags(1.0 / (part.in_degree.astype(np.float32) + 1.0))
    ones = np.ones(len(part.inner_indices), np.float32)
    local = sp.csr_matrix((ones, part.inner_indices, part.inner_indptr), shape=(rows, rows)) + sp.eye(rows)
    own = sp.csr_matrix((np.ones(rows, np.float32), (np.arange(rows), part.node_ids)), shape=(rows, nodes))
    ones = np.ones(len(part.halo_indices), np.float32)
    halo = mean @ sp.csr_matrix((ones, part.halo_indices, part.halo_indptr), shape=(rows, slots))
    weight = np.sqrt(np.asarray(halo.multiply(halo).sum(axis=0), np.float64).ravel())
    ids = originals[part.halo_ids]
    return Side(
        part.index, (mean @ local @ own).tocsr(), halo.tocsr(), ids, weight, np.asarray(part.halo_splits)
    )


def sides_of(folder: Path) -> list[Side]:
    """All parts of a folder as readers."""
    manifest = read_manifest(folder)
    parts = [open_part(folder, number, verify=False) for number in range(manifest.parts)]
    originals = np.concatenate([part.node_ids for part in parts])
    return [side_of(part, originals, manifest.num_nodes) for part in parts]


def slot_scale(side: Side, kind: str, rate: float, epoch: int) -> np.ndarray[Any, Any]:
    """Scale of every halo slot under the epoch's draw, 0 = not drawn: [H]."""
    scale = np.zeros(len(side.ids))
    for owner, (first, last) in enumerate(zip(side.splits, side.splits[1:], strict=False)):
        rows = int(last - first)
        if rows:
            drawn = _draw(side, kind, rate, epoch, owner, slice(first, last))
            scale[first + drawn.chosen] = drawn.scale
    return scale


def _draw(side: Side, kind: str, rate: float, epoch: int, owner: int, places: slice) -> ListDraw:
    who = {"seed": 0, "epoch": epoch, "sender": owner, "reader": side.reader}
    if kind == "importance":
        return draw_systematic(inclusion_probabilities(side.weight[places], rate), **who)
    return draw_uniform(rows=int(places.stop - places.start), rate=rate, **who)


def errors(sides: list[Side], history: list[FloatArray], kind: str, rate: float) -> list[float]:
    """Relative error of each epoch."""
    cached = [history[0][side.ids] for side in sides]
    found = []
    for epoch, h in enumerate(history):
        wrong = whole = 0.0
        for number, side in enumerate(sides):
            fresh = h[side.ids]
            scale = slot_scale(side, kind, rate, epoch).astype(np.float32)
            if kind == "cache":
                cached[number][scale > 0] = fresh[scale > 0]
                estimate = cached[number]
            else:
                estimate = fresh * scale[:, None]
            wrong += float(np.square(side.halo @ (estimate - fresh)).sum())
            whole += float(np.square(side.inner @ h + side.halo @ fresh).sum())
        found.append((wrong / whole) ** 0.5)
    return found[SETTLED:]


def study(options: argparse.Namespace, note: Callable[[str], None]) -> list[dict[str, Any]]:
    """One line per graph, cut, dropout, kind and rate."""
    lines = []
    for graph in options.graphs:
        source = reduced_source(graph, options.shared)
        for dropout in options.dropout:
            history = activations(source, dropout, options.epochs)
            norms = np.linalg.norm(history[-1], axis=1)
            for cut in options.cuts:
                method, parts = parse_cut(cut)
                sides = sides_of(parts_folder(source, parts, method=method))
                for rate in options.rates:
                    found = {kind: statistics.fmean(errors(sides, history, kind, rate)) for kind in KINDS}
                    spread = float(norms.std() / norms.mean())
                    lines.append(
                        {
                            "graph": graph,
                            "cut": cut,
                            "dropout": dropout,
                            "rate": rate,
                            "norm_spread": spread,
                            **found,
                        }
                    )
                    note(f"{lines[-1]}")
    return lines


def rows_of(lines: list[dict[str, Any]]) -> list[list[str]]:
    """The table."""
    return [
        [
            line["graph"],
            line["cut"],
            f"{line['dropout']:g}",
            f"{line['norm_spread']:.2f}",
            f"{line['rate']:g}",
            *(f"{line[kind]:.4f}" for kind in KINDS),
            f"{line['importance'] / line['uniform']:.3f}",
            f"{line['cache'] / line['uniform']:.3f}",
        ]
        for line in lines
    ]


HEADER = ("graph", "cut", "dropout", "spread of norms", "rate", *KINDS, "importance/uniform", "cache/uniform")


def concentration(sides: list[Side], rate: float) -> tuple[list[float], float]:
    """Where uniform draws' error comes from, for rows of equal norm.

    Returns the share of the squared error that the heaviest slots bring, for each of HEAVIEST, and the error
    of importance draws over that of uniform ones. A slot's share is weight^2 (1 / p - 1), see Side.
    """
    squares = np.sort(np.concatenate([side.weight**2 for side in sides]))[::-1]
    shares = [float(squares[: max(1, round(part * squares.size))].sum() / squares.sum()) for part in HEAVIEST]
    uniform = importance = 0.0
    for side in sides:
        for first, last in zip(side.splits, side.splits[1:], strict=False):
            weight = side.weight[first:last]
            if weight.size:
                probability = inclusion_probabilities(weight, rate)
                uniform += float((weight**2).sum()) * (1 / rate - 1)
                importance += float((weight**2 * (1 / probability - 1)).sum())
    return shares, (importance / uniform) ** 0.5


def concentration_table(options: argparse.Namespace) -> str:
    """`concentration` of every graph and cut."""
    rows = []
    for graph in options.graphs:
        for cut in options.cuts:
            method, parts = parse_cut(cut)
            folder = parts_folder(reduced_source(graph, options.shared), parts, method=method)
            shares, ratio = concentration(sides_of(folder), JUDGED_RATE)
            rows.append([graph, cut, *(f"{100 * share:.0f} %" for share in shares), f"{ratio:.2f}"])
    header = ["graph", "cut", *(f"heaviest {100 * part:g} % of slots" for part in HEAVIEST)]
    ratio_name = f"importance/uniform at {JUDGED_RATE:g}, expected"
    return table([*header, ratio_name], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS))
    parser.add_argument("--cuts", nargs="*", default=list(CUTS), metavar="METHOD:PARTS")
    parser.add_argument("--rates", nargs="*", type=float, default=list(RATES))
    parser.add_argument("--dropout", nargs="*", type=float, default=[0.0, 0.2])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(1)
    if options.report:
        record = RESULTS / "variance.json"
        if not record.exists():
            raise Skip("no record yet")
        lines = json.loads(record.read_text())["raw"]
    else:
        lines = study(options, lambda text: print(text, flush=True))
    better = sum(line["importance"] < line["uniform"] for line in lines)
    verdict = (
        f"Importance has the lower error in {better} of {len(lines)} cells; the cache in "
        f"{sum(line['cache'] < line['uniform'] for line in lines)} of them."
    )
    write_record(
        "variance",
        claim="Relative error of the first hidden layer's mean aggregate when boundary rows are drawn.",
        body=f"{verdict}\n\n{table(HEADER, rows_of(lines))}\n\n"
        f"## Which slots uniform draws' error comes from\n\n{concentration_table(options)}",
        raw=lines,
        does_not_show="deeper layers, gradients, and what such an error does to the score (see accuracy.md). "
        "The cache's error is bias as well as variance: it does not vanish in the mean over draws.",
        figure=save(variance_picture(lines)),
        before=before,
    )


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
