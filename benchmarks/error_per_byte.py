"""Error of the first hidden layer's sums against bytes: every fixed setting of the study, and auto's curve.

    python -m benchmarks.error_per_byte                      all graphs and cuts; goes on where a call ended
    python -m benchmarks.error_per_byte --report             the table and the figure alone

In every cell (graph and cut) the model is trained exactly for some epochs. From these weights each fixed
setting trains on for a few epochs, and so does `--policy auto` under budgets of bytes; the probe of
`--telemetry-every` measures the relative error of the lowest exchanging layer's aggregate in every epoch,
beside an exact exchange of the same rows. Means of the last epochs. Auto's curve is read at a setting's bytes
by the nearest budget that sends no more.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy import BASE, CUTS, GRAPHS, METHODS, parse_cut
from benchmarks.error_pictures import compared_errors, error_picture
from benchmarks.graphs import reduced_source
from benchmarks.measure import RESULTS, add_run, machine, read_runs, table, write_record
from benchmarks.pictures import save
from benchmarks.workers import Group, Job
from benchmarks.workloads import Skip, parts_folder
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.store import Part

WARM_UP, SETTLING, MEASURED = 10, 3, 5
"""Exact epochs before; epochs of each setting that are left out, and that count."""
BUDGETS = (0.5, 0.29, 0.2, 0.145, 0.1, 0.07, 0.05, 0.029, 0.02, 0.01, 0.005)
"""Of the bytes of exact epochs."""
LEFT_OUT = ("exact", "p=0", "exact, bf16 products", "auto")
FIXED = [name for name in METHODS if name not in LEFT_OUT]
HEADER = ("graph", "cut", "setting", "bytes of exact", "error", "auto's error", "auto / setting")
Line = dict[str, Any]


def errors_of(world: World, part: Part, config: TrainConfig) -> Line:
    """Bytes and error of every setting from the same weights."""
    model = build_model(part.manifest, config)
    trained = Trainer(world, part, model, config)
    for _ in range(WARM_UP):
        exact = trained.train_epoch()["comm/sent_bytes"]
    whole = float(world.all_reduce(torch.tensor([exact], dtype=torch.float64)))
    found = {name: _measured(trained, dataclasses.replace(config, **METHODS[name])) for name in FIXED}
    for share in BUDGETS:
        auto = dataclasses.replace(config, policy="auto", max_bytes=share * whole, epochs=10_000)
        found[f"auto {share:g}"] = _measured(trained, auto)
    return {"exact_bytes": exact, "found": found}


def _measured(trained: Trainer, config: TrainConfig) -> tuple[float, float]:
    """(Bytes of an epoch that this rank sends, relative error of the aggregate)."""
    config = dataclasses.replace(config, telemetry_every=1)
    trainer = Trainer(trained.world, trained.part, build_model(trained.part.manifest, config), config)
    trainer.model.load_state_dict(trained.model.state_dict())
    epochs = [trainer.train_epoch() for _ in range(SETTLING + MEASURED)][SETTLING:]
    sent = statistics.fmean(epoch["comm/sent_bytes"] for epoch in epochs)
    return sent, statistics.fmean(epoch["sampling/relative_error"] for epoch in epochs)


def run_study(options: argparse.Namespace, file: Path) -> None:
    """Measure the cells that are missing."""
    there = {(line["graph"], line["cut"]) for line in read_runs(file)} if file.exists() else set()
    with contextlib.ExitStack() as stack:
        groups: dict[int, Group] = {}
        for cut, graph in itertools.product(options.cuts, options.graphs):
            if (graph, cut) in there:
                continue
            method, parts = parse_cut(cut)
            if parts not in groups:
                groups[parts] = stack.enter_context(Group(parts, errors_of))
            folder = parts_folder(reduced_source(graph, options.shared), parts, method=method)
            answer = groups[parts].run(Job(parts_dir=str(folder), config=BASE.to_json()))
            add_run(file, {"graph": graph, "cut": cut, **answer})
            print(f"{cut:8} {graph}", flush=True)


def report(file: Path, before: dict[str, Any]) -> None:
    """Write the record of the cells that are there."""
    if not file.exists():
        raise Skip("no cells yet")
    found = compared_errors(read_runs(file))
    judged = [each for each in found if each["auto"] is not None]
    above = [each for each in judged if each["auto"] > each["error"]]
    names = ", ".join(f"{each['graph']} {each['cut']} {each['setting']}" for each in above)
    verdict = (
        f"Auto's error is at or below the setting's in {len(judged) - len(above)} of {len(judged)} "
        f"comparisons, at its bytes or fewer{'; above it: ' + names if names else ''}. Settings that send "
        f"fewer bytes than auto ever does have none to compare."
    )
    rows = [
        [
            *(each[name] for name in ("graph", "cut", "setting")),
            f"{each['share']:.3f}",
            f"{each['error']:.4f}",
            "-" if each["auto"] is None else f"{each['auto']:.4f}",
            "-" if each["auto"] is None else f"{each['auto'] / each['error']:.2f}",
        ]
        for each in found
    ]
    write_record(
        "error_per_byte",
        claim="Auto's error of the first hidden layer's sums beside every fixed setting's, at its bytes.",
        body=f"{verdict}\n\n{table(HEADER, rows)}",
        raw=read_runs(file),
        does_not_show="errors of gradients and of deeper layers (auto minimises the sum over layers), what "
        "an error does to the score (see accuracy.md), more than one seed.",
        figure=save(error_picture(found)),
        before=before,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS))
    parser.add_argument("--cuts", nargs="*", default=list(CUTS), metavar="METHOD:PARTS")
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    before, file = machine(), RESULTS / "error_per_byte.jsonl"
    if not options.report:
        run_study(options, file)
    report(file, before)


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
