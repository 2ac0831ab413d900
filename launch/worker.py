"""One worker process: does the task that the launcher wrote down and leaves its outcome.

python -m launch.worker FOLDER      FOLDER/job.json in, FOLDER/rank_K.json out
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

from launch.outcome import Outcome, outcome_of

TaskName = Literal["train", "evaluate", "predict", "round_trip"]

MISTAKE, FAILURE = 2, 1
"""Exit statuses."""
GRACE_S = 1.0
"""How long a rank that lost its peer waits before it ends, so that the peer is seen to end first."""
_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What the workers of one launch do."""

    task: TaskName
    workers: int
    threads: int = 0
    """Compute threads of each; 0 = cores / workers."""
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keyword arguments of the task, ready for JSON."""


def main() -> NoReturn:
    """Entry of `python -m launch.worker FOLDER`."""
    folder = Path(sys.argv[1])
    settle()
    job = Job(**json.loads((folder / "job.json").read_text()))
    rank = int(os.environ["RANK"])
    try:
        Outcome(rank=rank, kind="done", result=TASKS[job.task](**job.arguments), at_s=time.time()).write(
            folder
        )
        status = 0
    except Exception as error:
        outcome = outcome_of(error, rank)
        outcome.write(folder)
        status = leave(outcome)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a broken group may never end


def settle() -> None:
    """What every worker process does first: die with its launcher, without words; keep libraries quiet."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave(outcome: Outcome) -> int:
    """The exit status of a worker that failed, after the grace that its kind of failure needs."""
    if outcome.kind == "lost":
        time.sleep(GRACE_S)
    return MISTAKE if outcome.kind == "mistake" else FAILURE


def train(parts_dir: str, run_dir: str, config: dict[str, Any]) -> dict[str, Any]:
    """Train on this worker's part; the traceback of a failure stays in the run folder."""
    from bnsgcn.config import TrainConfig
    from bnsgcn.record.run_folder import RunFolder
    from bnsgcn.run import train_worker
    from launch.face import face

    try:
        return train_worker(parts_dir, run_dir, TrainConfig.from_json(config), face(run_dir))
    except Exception as error:
        outcome = outcome_of(error, int(os.environ.get("RANK", "0")))
        if outcome.kind != "mistake":
            with contextlib.suppress(OSError):  # the disk may be what failed
                RunFolder(run_dir).log_error(outcome.rank, outcome.trace)
        raise


def evaluate(run_dir: str) -> dict[str, Any]:
    """Score the best checkpoint."""
    from bnsgcn.run import evaluate_run

    return dataclasses.asdict(evaluate_run(run_dir))


def predict(run_dir: str, out: str) -> list[int]:
    """Write the logits of all nodes; their shape."""
    from bnsgcn.run import predict_run

    return list(predict_run(run_dir, out))


def round_trip(megabytes: int) -> dict[str, float]:
    """Send rows to the next rank and back; seconds, and whether they came back unchanged."""
    import torch

    from bnsgcn.dist import World

    world = World.start(backend="gloo", device="cpu", timeout_s=30)
    peer = (world.rank + 1) % world.size
    splits = [0] * world.size
    splits[peer] = megabytes * 1024
    rows = torch.full((splits[peer], 256), float(world.rank))
    there, back = torch.empty_like(rows), torch.empty_like(rows)
    for _ in range(2):  # the first time pays for connections and fresh memory
        world.barrier()
        begin = time.perf_counter()
        world.all_to_all(there, rows, splits, splits).wait()
        world.all_to_all(back, there, splits, splits).wait()
        seconds = time.perf_counter() - begin
    intact = torch.equal(back, rows) and bool((there == peer).all())
    world.close()
    return {"seconds": seconds, "megabytes": 2.0 * megabytes, "intact": float(intact)}


TASKS: dict[TaskName, Callable[..., Any]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "round_trip": round_trip,
}

if __name__ == "__main__":
    main()
