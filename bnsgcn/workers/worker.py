"""One worker process: does the task that the launcher wrote down and leaves its outcome.

python -m bnsgcn.workers.worker FOLDER      FOLDER/job.json in, FOLDER/rank_K.json out
"""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from bnsgcn.config import BackendName, DeviceName
from bnsgcn.own import NONE_OWN, References
from bnsgcn.workers.outcome import Outcome, outcome_of

if TYPE_CHECKING:
    from bnsgcn.record.tracker import Tracker
    from bnsgcn.track.choice import Shown

TaskName = Literal["train", "evaluate", "predict", "rehearse", "round_trip"]

_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What the workers of one launch do."""

    task: TaskName
    workers: int
    threads: int = 0
    """Compute threads of each; 0 = cores / workers."""
    timeout_s: float = 600.0
    """How long a worker waits for another."""
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keyword arguments of the task, ready for JSON."""
    launcher: int = dataclasses.field(default_factory=os.getpid)
    """The process that starts the workers."""

    @property
    def run_dir(self) -> str | None:
        """The run folder that the task is about."""
        return self.arguments.get("run_dir")


def main() -> NoReturn:
    """Entry of `python -m bnsgcn.workers.worker FOLDER`."""
    settle()
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    job = Job(**json.loads((folder / "job.json").read_text()))
    if os.getppid() != job.launcher:  # gone before this process was tied to it
        os._exit(1)
    stack = (folder / f"rank_{rank}.stack").open("w")
    faulthandler.register(signal.SIGUSR1, file=stack)  # the launcher asks a silent worker where it is
    try:
        result = TASKS[job.task](**job.arguments)
        outcome = Outcome(rank=rank, kind="done", result=result, at_s=time.time())
    except Exception as error:
        outcome = outcome_of(error, rank, job.run_dir, job.task)
    outcome.write(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(outcome.status)  # threads of a broken group may never end


def settle() -> None:
    """What a worker process does first: end with its launcher, end without words, keep libraries quiet."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.simplefilter("ignore")


def train(
    parts_dir: str,
    run_dir: str,
    config: dict[str, Any],
    own: References = NONE_OWN,
    shown: Shown = "face",
    made: Sequence[Mapping[str, Any]] = (),
    events: str | None = None,
) -> dict[str, Any]:
    """Train on this worker's part; the summary.

    Args:
        made: where functions are that make trackers.
        events: the file where the launcher reads what its own trackers are to be told.
    """
    from bnsgcn.config import TrainConfig
    from bnsgcn.run import train_worker
    from bnsgcn.track.choice import Made, followers
    from bnsgcn.workers.relayed import event_file

    options, folder = TrainConfig.from_json(config), Path(run_dir)
    trackers: list[Tracker] = [Made(each, folder, options) for each in made]
    if events is not None:
        trackers.append(event_file(Path(events)))
    return train_worker(parts_dir, run_dir, options, followers(folder, options, shown, trackers), own)


def evaluate(run_dir: str, per_class: bool) -> dict[str, Any]:
    """Score the best checkpoint."""
    from bnsgcn.run import evaluate_run

    return dataclasses.asdict(evaluate_run(run_dir, per_class=per_class))


def predict(run_dir: str, out: str, **wanted: Any) -> list[int]:
    """Write logits or embeddings of nodes; their shape."""
    from bnsgcn.predict import predict_run

    return list(predict_run(run_dir, out, **wanted))


def rehearse(parts_dir: str, config: dict[str, Any]) -> dict[str, Any]:
    """Train a few epochs for the planner; this worker's measurements."""
    from bnsgcn.config import TrainConfig
    from bnsgcn.plan.rehearsal import measure_epochs
    from bnsgcn.run import joined

    options = TrainConfig.from_json(config)
    with joined(options) as world:
        return measure_epochs(world, parts_dir, options)


def round_trip(megabytes: int, backend: BackendName = "gloo", device: DeviceName = "cpu") -> dict[str, float]:
    """Send rows to the next rank and back; seconds, and whether they came back unchanged."""
    import torch

    from bnsgcn.dist import World

    world = World.start(backend=backend, device=device, timeout_s=30)
    peer = (world.rank + 1) % world.size
    splits = [0] * world.size
    splits[peer] = megabytes * 1024
    rows = torch.full((splits[peer], 256), float(world.rank), device=world.device)
    there, back = torch.empty_like(rows), torch.empty_like(rows)
    for _ in range(2):  # the first time pays for connections and fresh memory
        world.barrier()
        begin = time.perf_counter()
        world.all_to_all(there, rows, splits, splits).wait()
        world.all_to_all(back, there, splits, splits).wait()
        if world.streams is not None:
            world.streams.mark().synchronize()
        seconds = time.perf_counter() - begin
    intact = torch.equal(back, rows) and bool((there == peer).all())
    world.close()
    return {"seconds": seconds, "megabytes": 2.0 * megabytes, "intact": float(intact)}


TASKS: dict[TaskName, Callable[..., Any]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "rehearse": rehearse,
    "round_trip": round_trip,
}

if __name__ == "__main__":
    main()
