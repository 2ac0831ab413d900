"""The worker that torchrun describes; one that is started again goes on from the last checkpoint."""

from __future__ import annotations

import dataclasses
import os
import sys

from bnsgcn.record.run_folder import RunFolder, launch_id
from launch.options import Train
from launch.outcome import outcome_of
from launch.parts import parts_folder
from launch.worker import leave, settle
from launch.worker import train as train_task


def be_worker(command: Train) -> int:
    """Train as the worker that torchrun's environment describes; the exit status."""
    settle()
    rank = int(os.environ["RANK"])
    try:
        options = command.options
        if _started_again(command):
            options = dataclasses.replace(options, resume=True)
        parts_dir = parts_folder(command, print if rank == 0 else _say_nothing)
        train_task(str(parts_dir), str(command.run_dir), options.to_json())
    except Exception as error:
        outcome = outcome_of(error, rank)
        status = leave(outcome)
        print(f"bnsgcn: error: rank {rank}: {outcome.message}", file=sys.stderr, flush=True)
        return status
    return 0


def _started_again(command: Train) -> bool:
    """Whether this torchrun has trained in the run folder before.

    Its machines count their restarts apart, but all see what the first start left there.
    """
    run = RunFolder(command.run_dir)
    return (run.path / "config.json").exists() and run.open().launch == launch_id()


def _say_nothing(_: str) -> None:
    """Rank 0 speaks."""
