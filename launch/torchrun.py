"""The worker that torchrun describes; one that is started again goes on from the last checkpoint.

torchrun ends the workers of its own machine alone, waits half a minute for one that is stopped, and does not
see one that is stuck. So a worker that has lost another ends those of its machine that are stopped, and one
whose peers have failed ends itself when it does not notice.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import NoReturn

from bnsgcn.show.say import complain, complain_once, teller
from bnsgcn.track.choice import shown_as
from bnsgcn.workers.crew import stopped_workers
from bnsgcn.workers.outcome import FAILURE, Outcome, outcome_of
from bnsgcn.workers.worker import settle
from bnsgcn.workers.worker import train as train_task
from launch.options import Train
from launch.parts import parts_of
from partition.errors import UserError

GRACE_S = 1.0
"""How long a rank that lost another stays, so that torchrun sees the other end first."""
STUCK_S = 5.0
"""How long a rank may take to notice that others have failed."""


def be_worker(command: Train) -> int:
    """Train as the worker that torchrun's environment describes; the exit status."""
    settle()
    rank = int(os.environ["RANK"])
    watch = threading.Thread(target=_watch_others, args=(command.run_dir / "errors", rank), daemon=True)
    watch.start()
    try:
        if command.seeds is not None:
            raise UserError(
                f"--seeds starts workers, which torchrun's cannot: start torchrun for each, with --seed K "
                f"--run-dir {command.run_dir}/seed_K; then bnsgcn train with --seeds --resume adds them up"
            )
        parts_dir = parts_of(
            command, teller(quiet=command.quiet, json=command.json) if rank == 0 else _say_nothing
        )
        shown = shown_as(quiet=command.quiet, json=command.json)
        train_task(str(parts_dir), str(command.run_dir), command.options.to_json(), shown=shown)
    except Exception as error:
        outcome = outcome_of(error, rank, command.run_dir)
        if outcome.kind == "mistake":
            complain_once(outcome.message)
        else:
            complain(f"rank {rank}: {outcome.message}{outcome.traceback()}")
        _tell_torchrun(outcome)
        if outcome.kind == "lost":
            end_stopped(os.getppid(), command.options.timeout_s)
            time.sleep(GRACE_S)
        return outcome.status
    return 0


def end_stopped(agent: int, timeout_s: float) -> None:
    """Kill those workers of the torchrun process `agent` that are stopped, and say so."""
    for rank, pid in stopped_workers(agent).items():
        complain(f"rank {rank} was stopped and did not answer within {timeout_s:g} s (--timeout-s)")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _watch_others(errors: Path, rank: int) -> NoReturn:
    """End this process some time after another rank has left its error in the run folder.

    All machines see that folder. A rank that waits for others has noticed by itself until then.
    """
    own = f"rank_{rank}.txt"
    before = _errors(errors)
    while not {name for name in _errors(errors) - before if name[0] != own}:
        time.sleep(STUCK_S / 5)
    time.sleep(STUCK_S)
    line = "others have failed, and this rank does not notice"
    with contextlib.suppress(OSError), (errors / own).open("w") as file:
        faulthandler.dump_traceback(file)
        line += f"; where it is is in {errors / own}"
    complain(f"rank {rank}: {line}")
    os._exit(FAILURE)


def _errors(folder: Path) -> set[tuple[str, int]]:
    """Names and times of the tracebacks in a run folder."""
    with contextlib.suppress(OSError):
        return {(path.name, path.stat().st_mtime_ns) for path in folder.glob("rank_*.txt")}
    return set()


def _tell_torchrun(outcome: Outcome) -> None:
    """Put the line where torchrun looks for what it says last."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        more = {"py_callstack": outcome.message, "timestamp": str(int(outcome.at_s))}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": outcome.message, "extraInfo": more}}))


def _say_nothing(_: str) -> None:
    """Rank 0 speaks."""
