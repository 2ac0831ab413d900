"""The torchrun entry: `torchrun --nproc-per-node K -m launch.train DIR --run-dir RUN [options]`.

The options are those of `bnsgcn train`. A worker that torchrun starts again goes on from the last
checkpoint. Started without torchrun, this is `bnsgcn train`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from typing import NoReturn

from launch.cli import guarded, train
from launch.options import Train
from launch.outcome import outcome_of
from launch.parse import parse
from launch.parts import parts_folder
from launch.worker import leave, settle
from launch.worker import train as train_task


def main() -> NoReturn:
    """Entry of `python -m launch.train`."""
    warnings.simplefilter("ignore")
    status = guarded(_start)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a broken group may never end


def _start() -> int:
    command = parse(["train", *sys.argv[1:]])
    assert isinstance(command, Train)
    return train(command)


def be_worker(command: Train) -> int:
    """Train as the worker that torchrun's environment describes; the exit status."""
    settle()
    rank = int(os.environ["RANK"])
    options = command.options
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0:
        options = dataclasses.replace(options, resume=True)
    try:
        parts_dir = parts_folder(command, print if rank == 0 else _say_nothing)
        train_task(str(parts_dir), str(command.run_dir), options.to_json())
    except Exception as error:
        outcome = outcome_of(error, rank)
        status = leave(outcome)
        print(f"bnsgcn: error: rank {rank}: {outcome.message}", file=sys.stderr, flush=True)
        return status
    return 0


def _say_nothing(_: str) -> None:
    """Rank 0 speaks."""


if __name__ == "__main__":
    main()
