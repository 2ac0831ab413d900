"""What each command does. Torch is imported by those that need it alone."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bnsgcn.show.say import say, tell, teller
from launch.options import (
    Command,
    Doctor,
    Evaluate,
    Export,
    Inspect,
    Partition,
    Plan,
    Predict,
    Repartition,
    Report,
    Sweep,
    Train,
)
from partition.errors import UserError

if TYPE_CHECKING:
    from bnsgcn.plan.machine import Machine
    from partition.assign import Recipe


def do(command: Command) -> int:
    """Do what `command` says."""
    if isinstance(command, Partition):
        return _partition(command)
    if isinstance(command, Repartition):
        return _repartition(command)
    if isinstance(command, Inspect):
        return _inspect(command)
    if isinstance(command, Plan):
        return _plan(command)
    if isinstance(command, Train):
        return train(command)
    if isinstance(command, Sweep):
        from launch.sweep import sweep

        sweep(command)
        return 0
    if isinstance(command, Evaluate):
        return _evaluate(command)
    if isinstance(command, Predict):
        return _predict(command)
    if isinstance(command, Report):
        from launch.report.making import make_report

        make_report(command)
        return 0
    if isinstance(command, Export):
        return _export(command)
    assert isinstance(command, Doctor)
    from launch.doctor import examine

    return examine()


def _partition(command: Partition) -> int:
    from partition.build import build_parts
    from partition.stopping import stoppable

    with stoppable():
        build_parts(command.source, _recipe(command), out=command.out, progress=tell)
        _show_parts(command.out)
    return 0


def _repartition(command: Repartition) -> int:
    from partition.reassembled import repartition
    from partition.stopping import stoppable

    with stoppable():
        repartition(command.folder, _recipe(command), out=command.out, progress=tell)
        _show_parts(command.out)
    return 0


def _recipe(command: Partition | Repartition) -> Recipe:
    from partition.assign import Recipe

    return Recipe(
        parts=command.parts,
        method=command.method,
        objective=command.objective,
        seed=command.seed,
        refine=command.refine,
        starts=command.starts,
        hosts=command.hosts,
    )


def _show_parts(folder: Path) -> None:
    from bnsgcn.config import TrainConfig
    from bnsgcn.plan.memory import peak_bytes
    from launch.tables import show_quality
    from partition.quality import inspect_parts

    show_quality(inspect_parts(folder), peak_bytes(folder, TrainConfig()))


def _inspect(command: Inspect) -> int:
    from bnsgcn.config import TrainConfig
    from bnsgcn.plan.memory import peak_bytes
    from launch.tables import show_quality
    from partition.quality import inspect_parts

    quality = inspect_parts(command.folder, command.hosts)
    if command.plot is not None:
        from partition.plot import plot_quality

        plot_quality(quality, command.plot)
    if command.json:
        say(json.dumps(quality.to_json()))
    else:
        model = TrainConfig(layers=command.layers, hidden=command.hidden)
        show_quality(quality, peak_bytes(command.folder, model))
    return 0


def _plan(command: Plan) -> int:
    import torch

    from bnsgcn.capacity import check_threads, core_count
    from bnsgcn.plan.choose import choose, expected_of_auto, grid
    from bnsgcn.plan.costs import plans
    from launch.tables import show_grid, show_plan
    from partition.store import read_manifest

    check_threads(command.options.threads)
    workers = read_manifest(command.folder).parts
    torch.set_num_threads(command.options.threads or max(1, core_count() // workers))
    machine = _machine(command)
    limit = None if command.memory_gb is None else int(command.memory_gb * 1e9)
    if command.grid or command.options.policy == "auto":
        found = grid(command.folder, command.options, machine)
        auto = expected_of_auto(found)
        found = found if command.grid else [auto]
    else:
        found = plans(command.folder, [command.options], machine)
    choice = choose(found, limit)
    if command.json:
        chosen = {"choice": choice.plan.config.to_json(), "reason": choice.reason}
        chosen |= {"auto": auto.config.to_json()} if command.grid else {}
        say(json.dumps({"plans": [plan.to_json() for plan in found]} | (chosen if command.grid else {})))
    elif command.grid:
        show_grid(found, choice, auto)
    else:
        show_plan(found[0])
    return 0


def _machine(command: Plan) -> Machine:
    """The machine as measured, with --calibrate as a rehearsal shows it, at the link that is asked for."""
    from bnsgcn.plan.costs import all_parts
    from bnsgcn.plan.machine import Machine
    from bnsgcn.plan.rehearsal import calibrated
    from bnsgcn.workers.jobs import rehearse_here

    folder, options = command.folder, command.options
    machine = Machine.measure(options, parts=all_parts(folder))
    if command.calibrate:
        teller(quiet=False, json=command.json)("rehearsing some epochs")
        machine = calibrated(folder, options, machine, rehearse_here(folder, options))
    return machine if command.link_gbit_s is None else machine.apart(command.link_gbit_s * 1e9 / 8)


def train(command: Train) -> int:
    """Inside torchrun be a worker; elsewhere start one worker a part and wait for them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from launch.torchrun import be_worker

        return be_worker(command)
    begin = time.monotonic()
    from bnsgcn.capacity import check_threads, check_workers
    from bnsgcn.track.choice import check_installed, shown_as
    from bnsgcn.workers.jobs import train_here
    from launch.parts import parts_of

    check_threads(command.options.threads)
    check_workers(command.parts or 1)
    check_installed(command.options)
    shown, tell = (
        shown_as(quiet=command.quiet, json=command.json),
        teller(quiet=command.quiet, json=command.json),
    )
    if command.seeds is not None:
        from launch.leaderboard import train_with_seeds

        train_with_seeds(command, shown, tell)
    else:
        train_here(parts_of(command, tell), command.run_dir, command.options, say=tell, shown=shown)
    tell(f"  took        {time.monotonic() - begin:.1f} s in all")
    return 0


def _evaluate(command: Evaluate) -> int:
    from bnsgcn.workers.jobs import on_run

    scores = on_run(command.run, "evaluate", {"per_class": command.per_class})
    classes = [{"class": row.pop("label")} | row for row in scores["per_class"]]
    if command.json:
        found = {"metric": scores["metric"], "val_score": scores["val"], "test_score": scores["test"]}
        say(json.dumps(found | ({"per_class": classes} if command.per_class else {})))
        return 0
    say(f"test {scores['metric']} {scores['test']:.4f}   (validation {scores['val']:.4f})")
    if command.per_class:
        from launch.tables import show_classes

        show_classes(classes)
    return 0


def _predict(command: Predict) -> int:
    from bnsgcn.predict import rows_writer
    from bnsgcn.workers.jobs import on_run

    out = command.out
    _check_rows_file(out, command.format)
    wanted = {"nodes": command.nodes, "embeddings": command.embeddings}
    arguments = {"run_dir": str(command.run), "out": str(out)} | wanted
    try:
        with _parts_of(command) as parts_dir:
            rows, columns = on_run(command.run, "predict", arguments | {"parts_dir": parts_dir})
    except BaseException:  # workers that are killed cannot clean up
        rows_writer(out, 0, "", None).discard()
        raise
    what = "logits" if command.embeddings is None else f"outputs of layer {command.embeddings}"
    kind = "classes" if command.embeddings is None else "columns"
    say(f"wrote {out}: float32 {what} of {rows:,} nodes, {columns} {kind}")
    return 0


def _check_rows_file(out: Path, form: str | None) -> None:
    """UserError where --out cannot be a new file of the form."""
    from partition.optional import optional

    if out.exists():
        raise UserError(f"--out {out} exists already; name a new file")
    form = form or ("parquet" if out.suffix == ".parquet" else "npy")
    if out.suffix != f".{form}":
        raise UserError(f"--out {out} does not end in .{form}; name it {out.with_suffix(f'.{form}')}")
    if not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    if form == "parquet":
        optional("pyarrow")


@contextlib.contextmanager
def _parts_of(command: Predict) -> Iterator[str | None]:
    """Parts of --source, beside --out, as long as they are needed; None where there is no --source."""
    if command.source is None:
        yield None
        return
    from bnsgcn.predict import write_parts_like
    from partition.stopping import stoppable

    with (
        stoppable(),
        tempfile.TemporaryDirectory(prefix=f".{command.out.name}-", dir=command.out.parent) as name,
    ):
        write_parts_like(command.run, command.source, Path(name) / "parts", say)
        yield str(Path(name) / "parts")


def _export(command: Export) -> int:
    from bnsgcn.out.export import export_run

    file, lines = export_run(command.run, command.to, command.out)
    say(f"wrote {file}: the best model of {command.run}")
    for line in lines:
        say(f"  {line}")
    return 0
