"""`bnsgcn.train` and its like: from a graph in memory to a run, with workers that start themselves.

Workers are fresh interpreters, never copies of the caller, so a script needs no `if __name__` guard.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from bnsgcn.api.caller import inside_torchrun, interruptible, leave_if_worker, redirected, say, say_nothing
from bnsgcn.api.following import Following, Track, following
from bnsgcn.api.seed_runs import SeedRuns
from bnsgcn.api.trained import Run
from bnsgcn.capacity import check_threads, check_workers
from bnsgcn.config import TrainConfig
from bnsgcn.earlier import EARLIER
from bnsgcn.fitting import fitting
from bnsgcn.own import KINDS, References, reference_to
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.seeds import seeds_of
from bnsgcn.track.choice import Made, Shown, check_installed, followers
from partition import sources
from partition.cache import CACHE, parts_folder
from partition.errors import UserError, nearest
from partition.graph import Graph

Function: TypeAlias = Callable[..., Any]
_CUTTING = ("method", "objective", "cache_dir")
_OTHERS = ("parts", "run_dir", "progress", *_CUTTING)


def read(source: str) -> Graph:
    """The graph that a SOURCE names, such as `npz:graph.npz` or `ogb:ogbn-products`.

    Raises:
        UserError: There is no such graph, or something is wrong with it.
    """
    return sources.load(source, say)


def train(
    graph: Graph | str | Path,
    *,
    parts: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    model: str | Function = "sage",
    optimizer: str | Function | None = None,
    schedule: Function | None = None,
    loss: Function | None = None,
    metric: str | Function | None = None,
    method: str = "metis",
    objective: Any = "volume",
    cache_dir: str | os.PathLike[str] = CACHE,
    progress: bool = True,
    track: Track | Sequence[Track] | None = None,
    **options: Any,
) -> Run:
    """Train on `graph`, one worker a part, as `bnsgcn train` does with the same options.

    Inside torchrun this process is one of the workers.

    Args:
        graph: a graph, a SOURCE, or a folder of parts.
        parts: into how many parts a graph or a SOURCE is cut; 2 if not given.
        run_dir: folder of the run; None = a temporary one that lasts as long as the Run.
        model: gcn, sage, gat, or a function (features, classes, config) -> torch.nn.Module of your own.
        optimizer: adam, adamw, or a function from the parameters to their optimiser, which knows its own
            rate and weight decay.
        schedule: a function from the epoch to the factor on the learning rate, in place of `lr_schedule`.
        loss: a function (logits, labels, count) -> this worker's share of the loss: a sum over its nodes,
            divided by the number of training nodes of all workers.
        metric: a name, or a function (logits, labels) -> score of all nodes of a split; more is better.
        method, objective, cache_dir: how a graph is cut, and where its parts are kept.
        progress: whether the run shows itself.
        track: csv, tensorboard, mlflow, wandb; a `Tracker` of your own, which is told in this process while
            the workers train; a function (run_dir, config) -> Tracker, called in the worker of rank 0; or
            several of these.
        options: fields of `TrainConfig`, the options of `bnsgcn train` with underscores.

    Raises:
        UserError: a mistake in what was given, in one line.
        WorkerFailure: a worker failed; the traceback of its rank is the cause.
        KeyboardInterrupt: you have stopped it; all workers have ended.
    """
    leave_if_worker()
    given = {"model": model, "optimizer": optimizer, "schedule": schedule, "loss": loss, "metric": metric}
    followed = following(track)
    config, own = _asked_for(given, options | {"track": followed.names})
    _check(parts, run_dir, config)
    speak = say if progress and os.environ.get("RANK", "0") == "0" else say_nothing
    kept = Path(tempfile.mkdtemp(prefix="bnsgcn-run-")) if run_dir is None else None
    run = Run(Path(str(run_dir)).expanduser() if kept is None else kept / "run", kept=kept)
    with interruptible():
        cut = parts_folder(
            graph, parts, method=method, objective=objective, root=Path(cache_dir), progress=speak
        )
        _train(cut, run.path, config, own, followed, shown="face" if progress else "nothing", speak=speak)
    return run


def train_seeds(
    graph: Graph | str | Path,
    seeds: str | Iterable[int],
    *,
    run_dir: str | os.PathLike[str],
    parts: int | None = None,
    progress: bool = True,
    **options: Any,
) -> SeedRuns:
    """Train with one seed after the other in `run_dir`/seed_K, as `bnsgcn train` does with several.

    With resume=True what has ended stays as it is and the rest goes on.

    Args:
        seeds: range(10), or a text such as "0-9" or "0,3,7".
        options: as for `train`.

    Raises:
        UserError, WorkerFailure, KeyboardInterrupt: as `train`.
    """
    leave_if_worker()
    if inside_torchrun():
        raise UserError(
            "bnsgcn.train_seeds starts workers, which a worker of torchrun cannot; start torchrun for each "
            "seed, with bnsgcn.train(..., seed=K), or use bnsgcn train --seeds"
        )
    wanted = seeds_of(seeds if isinstance(seeds, str) else ",".join(map(str, seeds)))
    cutting = {name: options.pop(name) for name in _CUTTING if name in options}
    given = {kind: options.pop(kind) for kind in KINDS if kind in options}
    followed = following(options.pop("track", None))
    config, own = _asked_for(given, options | {"track": followed.names})
    _check(parts, run_dir, config)
    folder, speak = Path(run_dir).expanduser(), say if progress else say_nothing
    from bnsgcn.workers import series

    with interruptible():
        root = Path(cutting.pop("cache_dir", CACHE))
        cut = parts_folder(graph, parts, root=root, progress=speak, **cutting)
        series.train_seeds(
            cut,
            folder,
            wanted,
            config,
            say=speak,
            own=own,
            shown="face" if progress else "nothing",
            made=followed.makers,
            told=followed.told,
            relayed=redirected(),
        )
    return SeedRuns(folder)


def open_run(run_dir: str | os.PathLike[str]) -> Run:
    """The run in a folder, trained here or by the command.

    Raises:
        UserError: It is no run folder.
    """
    RunFolder(run_dir).open()
    return Run(Path(run_dir))


def _train(
    cut: Path,
    folder: Path,
    config: TrainConfig,
    own: References,
    followed: Following,
    *,
    shown: Shown,
    speak: Callable[[str], None],
) -> None:
    if inside_torchrun():
        from bnsgcn.run import train_worker

        made = [Made(each, folder, config) for each in followed.makers]
        tracker = followers(folder, config, shown, [*made, *followed.told])
        train_worker(cut, folder, config, tracker, own)
        return
    from bnsgcn.workers.jobs import train_here

    train_here(
        cut,
        folder,
        config,
        say=speak,
        own=own,
        shown=shown,
        made=followed.makers,
        told=followed.told,
        relayed=redirected(),
    )


def _check(parts: int | None, run_dir: object, config: TrainConfig) -> None:
    """Raise what can be said before the graph is cut."""
    if parts is not None and fitting("parts", parts, int) < 1:
        raise UserError(f"--parts is {parts}, must be at least 1")
    check_threads(config.threads)
    check_installed(config)
    if not inside_torchrun():
        check_workers(parts or 1)
    elif run_dir is None:
        raise UserError("inside torchrun all workers need the same run_dir; name one")


def _asked_for(given: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[TrainConfig, References]:
    """Options, and functions of the user's own; each of `given` is a name, a function or None."""
    named = {kind: value for kind, value in given.items() if isinstance(value, str)}
    functions = {kind: value for kind, value in given.items() if kind not in named and value is not None}
    config = _config({**options, **named})
    config.check_own(functions)
    return config, {kind: reference_to(kind, value).to_json() for kind, value in functions.items()}


def _config(options: dict[str, Any]) -> TrainConfig:
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    for name, value in options.items():
        if name in KINDS and name not in names:
            raise UserError(f"{name} is {value!r}, must be a function that every worker can import")
        if name not in names:
            near = nearest(name, [*names, *KINDS, *_OTHERS])
            near = f"; {EARLIER[name]}" if name in EARLIER else near
            raise UserError(f"bnsgcn.train has no option {name!r}{near}; see bnsgcn train --help")
    return TrainConfig(**options)
