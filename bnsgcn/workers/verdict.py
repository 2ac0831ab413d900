"""What happened when the workers of a launch did not all come to their end: one rank, one reason."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.train.seal import sealed_folders
from bnsgcn.workers.crew import End
from bnsgcn.workers.outcome import Outcome, RankTraceback, WorkerFailure
from bnsgcn.workers.worker import Job
from partition.errors import UserError

WAITS_IN = "/bnsgcn/dist.py"
"""A rank whose stack goes through this file waits for another one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was to be seen of the processes when the launcher gave up."""

    ends: list[End]
    stopped: list[int] = dataclasses.field(default_factory=list)
    """Ranks that a signal had stopped."""
    stacks: dict[int, str] = dataclasses.field(default_factory=dict)
    """Where the ranks that still ran were; empty for one that did not say."""


def verdict(evidence: Evidence, outcomes: list[Outcome], job: Job) -> UserError | WorkerFailure:
    """The exception that names the first cause; `outcomes` in the order of `read_outcomes`.

    Causes come before consequences. A process that a signal ended comes first (nccl's abort when it has lost
    a peer is no cause), then what ranks say of themselves, then one that is stopped or silent.
    """
    told = {outcome.rank for outcome in outcomes}
    unsaid = sorted((end for end in evidence.ends if end.rank not in told), key=lambda end: end.at_s)
    killed = [end for end in unsaid if end.status < 0]
    aborted = [end for end in killed if end.status == -signal.SIGABRT]
    for end in killed:
        if end not in aborted:
            return _killed(end, job)
    said = [outcome for outcome in outcomes if outcome.kind in ("mistake", "failure")]
    for end in unsaid:
        if end.status >= 0 and not (said and said[0].at_s < end.at_s):
            return WorkerFailure(
                f"rank {end.rank} ended with status {end.status} and said nothing{_way_on(job)}"
            )
    if said:
        return _said(said[0])
    if evidence.stopped:
        return WorkerFailure(
            f"rank {evidence.stopped[0]} was stopped and did not answer within {_timeout(job)}{_way_on(job)}"
        )
    if aborted:
        return _killed(aborted[0], job)
    for rank, stack in sorted(evidence.stacks.items()):
        if WAITS_IN not in stack:
            return _silent(rank, stack, job)
    return _said(next(outcome for outcome in outcomes if outcome.kind == "lost"))


def _killed(end: End, job: Job) -> WorkerFailure:
    name = signal.Signals(-end.status).name
    return WorkerFailure(f"rank {end.rank} of the workers was killed by {name}{_way_on(job)}")


def _said(outcome: Outcome) -> UserError | WorkerFailure:
    if outcome.kind == "mistake":
        return UserError(outcome.message)
    what = "lost another rank" if outcome.kind == "lost" else "failed"
    failure = WorkerFailure(f"rank {outcome.rank} {what}: {outcome.message}{outcome.traceback()}")
    if outcome.kept:  # else the message has it
        failure.__cause__ = RankTraceback(outcome.trace)
    return failure


def _silent(rank: int, stack: str, job: Job) -> WorkerFailure:
    line = f"rank {rank} did not answer within {_timeout(job)}"
    kept = RunFolder(job.run_dir).log_error(rank, stack) if job.run_dir and stack else None
    if kept is not None:
        return WorkerFailure(f"{line}; where it was is in {kept}")
    return WorkerFailure(f"{line}\n{stack}" if stack else line)


def _timeout(job: Job) -> str:
    return f"{job.timeout_s:g} s (--timeout-s)"


def _way_on(job: Job) -> str:
    if job.task == "train" and job.run_dir and sealed_folders(Path(job.run_dir) / "checkpoints"):
        return "; the same command with --resume goes on from the last checkpoint"
    return ""
