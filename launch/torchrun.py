"""The worker that torchrun describes; one that is started again goes on from the last checkpoint."""

from __future__ import annotations

import os
import time

from bnsgcn.show.say import complain, say
from bnsgcn.workers.outcome import outcome_of
from bnsgcn.workers.worker import settle
from bnsgcn.workers.worker import train as train_task
from launch.options import Train
from launch.parts import parts_folder

GRACE_S = 1.0
"""How long a rank that lost another stays, so that torchrun sees the other end first."""


def be_worker(command: Train) -> int:
    """Train as the worker that torchrun's environment describes; the exit status."""
    settle()
    rank = int(os.environ["RANK"])
    try:
        parts_dir = parts_folder(command, say if rank == 0 else _say_nothing)
        train_task(str(parts_dir), str(command.run_dir), command.options.to_json())
    except Exception as error:
        outcome = outcome_of(error, rank, command.run_dir)
        mistake = outcome.kind == "mistake"
        complain(f"rank {rank}: {outcome.message}{'' if mistake else outcome.traceback()}")
        if outcome.kind == "lost":
            time.sleep(GRACE_S)
        return outcome.status
    return 0


def _say_nothing(_: str) -> None:
    """Rank 0 speaks."""
