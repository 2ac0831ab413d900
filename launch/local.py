"""Starts the workers of this machine through torchrun's Python API and says how they ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.outcome import Outcome, read_outcomes
from launch.worker import Job
from partition.errors import Stopped, UserError

SHUTDOWN_S = 5
"""How long workers that are told to end may take before they are killed."""


ALL_ENDED = "; all workers have ended"


class WorkerFailure(RuntimeError):
    """A worker failed for a reason that is not the user's; names the rank."""


def run_local(job: Job, *, run_dir: Path | None = None) -> list[Any]:
    """Do `job` on local workers; their results by rank. When it returns or raises, no worker is left.

    Raises:
        ValueError: A worker found a mistake of the user.
        WorkerFailure: A worker failed or was killed.
        Stopped: This process was told to end.
    """
    with tempfile.TemporaryDirectory(prefix="bnsgcn-") as name, _environment(job), _agent_tamed():
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
        killed = _launch(job.workers, folder)
        outcomes = read_outcomes(folder)
    if killed is None:
        return [outcome.result for outcome in sorted(outcomes, key=lambda outcome: outcome.rank)]
    raise _explained(killed, outcomes, run_dir)


def _launch(workers: int, folder: Path) -> dict[int, int] | None:
    """Start the workers and wait for all; None, or the exit status of the ranks that failed."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
        shutdown_timeout=SHUTDOWN_S,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "launch.worker", str(folder))
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException as error:
        raise Stopped(int(error.sigval), ALL_ENDED) from None
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, ALL_ENDED) from None
    return None


def _explained(failed: dict[int, int], outcomes: list[Outcome], run_dir: Path | None) -> Exception:
    """The one exception that says what happened, from exit statuses and outcomes."""
    for rank, status in sorted(failed.items()):
        if status < 0 and status != -signal.SIGTERM:  # the agent ends the other ranks by SIGTERM
            name = signal.Signals(-status).name
            return WorkerFailure(f"rank {rank} of the workers was killed by {name}{_way_on(run_dir)}")
    causes = [outcome for outcome in outcomes if outcome.kind != "done"]
    if not causes or causes[0].kind == "lost":
        silent = set(failed) - {outcome.rank for outcome in causes}
        for rank in sorted(silent, key=lambda rank: (failed[rank] == -signal.SIGTERM, rank)):
            if failed[rank] != -signal.SIGTERM or not causes:
                return WorkerFailure(
                    f"rank {rank} ended with status {failed[rank]} and said nothing{_way_on(run_dir)}"
                )
    first = causes[0]
    if first.kind == "mistake":
        return UserError(first.message)
    what = "lost another rank" if first.kind == "lost" else "failed"
    where = run_dir / "errors" / f"rank_{first.rank}.txt" if run_dir else None
    if where is not None and where.exists():
        return WorkerFailure(f"rank {first.rank} {what}: {first.message}; its traceback is in {where}")
    return WorkerFailure(f"rank {first.rank} {what}: {first.message}\n{first.trace}")


def _way_on(run_dir: Path | None) -> str:
    if run_dir is not None and any(run_dir.glob("checkpoints/epoch_*")):
        return "; the same command with --resume goes on from the last checkpoint"
    return ""


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _agent_tamed() -> Iterator[None]:
    """No log lines of the elastic agent, and none of its signal handlers left behind."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = [(number, signal.getsignal(number)) for number in numbers]
    try:
        yield
    finally:
        logging.disable(disabled)
        for number, handler in before:
            signal.signal(number, handler)


@contextlib.contextmanager
def _environment(job: Job) -> Iterator[None]:
    """What the workers inherit: their threads, the loopback device, and silence from libraries."""
    threads = str(job.threads or max(1, core_count() // job.workers))
    wanted = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        "PYTHONSAFEPATH": "1",
        "DGLBACKEND": "pytorch",
    }
    home = Path(__file__).resolve().parent.parent
    if home.name != "site-packages":  # started from a checkout that is perhaps not installed
        known = os.environ.get("PYTHONPATH")
        wanted["PYTHONPATH"] = os.pathsep.join([str(home), *([known] if known else [])])
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback and "GLOO_SOCKET_IFNAME" not in os.environ:
        wanted["GLOO_SOCKET_IFNAME"] = loopback[0]
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
