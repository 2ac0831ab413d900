"""What is done on workers of this machine: train on a folder of parts, score or predict with a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnsgcn.capacity import check_threads, check_workers, most_threads
from bnsgcn.config import TrainConfig
from bnsgcn.own import NONE_OWN, References
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Tracker
from bnsgcn.track.choice import Shown
from bnsgcn.track.guarded import Guarded
from bnsgcn.workers.local import run_local
from bnsgcn.workers.worker import Job, TaskName
from partition.errors import UserError
from partition.store import read_manifest


def train_here(
    parts_dir: Path,
    run_dir: Path,
    config: TrainConfig,
    *,
    say: Callable[[str], None],
    own: References = NONE_OWN,
    shown: Shown = "face",
    made: Sequence[Mapping[str, Any]] = (),
    told: Sequence[Tracker] = (),
    relayed: bool = False,
) -> dict[str, Any]:
    """Train on one worker a part; the summary.

    Args:
        shown: how the run shows itself.
        made: where functions are that make trackers in the worker of rank 0.
        told: trackers in this process.
        relayed: see `run_local`.

    Raises:
        UserError: the machine, the parts, the run folder and the options do not fit together.
    """
    check_threads(config.threads)
    manifest = read_manifest(parts_dir)
    check_workers(manifest.parts)
    RunFolder(run_dir).check(config, manifest, own)
    job = Job(
        task="train",
        workers=manifest.parts,
        threads=config.threads,
        timeout_s=config.timeout_s,
        arguments={
            "parts_dir": str(parts_dir),
            "run_dir": str(run_dir),
            "config": config.to_json(),
            "own": own,
            "shown": shown,
            "made": list(made),
        },
    )
    guarded = [Guarded(type(tracker).__name__, tracker, run_dir) for tracker in told]
    say(f"starting {manifest.parts} worker{'s' if manifest.parts != 1 else ''}")
    summary: dict[str, Any] = run_local(job, relayed=relayed, told=guarded)[0]
    return summary


def rehearse_here(parts_dir: Path, config: TrainConfig) -> list[dict[str, Any]]:
    """What one worker a part measures in a few epochs, by rank; see plan/rehearsal.py.

    Raises:
        UserError: the machine, the parts and the options do not fit together.
    """
    workers = read_manifest(parts_dir).parts
    check_workers(workers)
    job = Job(
        task="rehearse",
        workers=workers,
        threads=config.threads,
        timeout_s=config.timeout_s,
        arguments={"parts_dir": str(parts_dir), "config": config.to_json()},
    )
    return run_local(job)


def on_run(run_dir: Path, task: TaskName, arguments: dict[str, Any], *, relayed: bool = False) -> Any:
    """Rank 0's result of a task on a run's parts.

    Raises:
        UserError: there is no such run, or its parts are not there any more.
    """
    facts = RunFolder(run_dir).open()
    if read_manifest(facts.parts_dir).digest != facts.digest:
        raise UserError(
            f"{facts.parts_dir} holds other parts than those that {run_dir} was trained on; "
            f"partition again as then, or train again"
        )
    check_workers(facts.parts)
    job = Job(
        task=task,
        workers=facts.parts,
        threads=min(facts.config.threads, most_threads()),
        timeout_s=facts.config.timeout_s,
        arguments={"run_dir": str(run_dir)} | arguments,
    )
    return run_local(job, relayed=relayed)[0]
