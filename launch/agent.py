"""torchrun for the workers of several machines, ended in time and without a traceback of its own.

    python -m launch.agent [torchrun's options] -m launch.train DIR --run-dir RUN [options]

torchrun's agent has no deadline when it asks another machine that has gone, and prints some thirty lines
below the one line of a worker. Here the command line is read before anything starts, --timeout-s holds for
the agent too, and the exit status is that of the worker that failed first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from bnsgcn.show.say import complain
from bnsgcn.workers.crew import stopped_workers
from bnsgcn.workers.outcome import FAILURE, WorkerFailure
from launch.ending import guarded
from launch.options import Command, Train
from launch.torchrun import end_stopped
from partition.errors import Stopped

ENTRY = ("-m", "launch.train")
WATCH_S = 0.5
AGENT_S = 15.0
"""How long torchrun's agent may leave a worker that has ended unnoticed; it asks another machine then."""
MEETING_S = 60.0
"""The least time that the agent may be without workers, while it waits for other machines."""


def main() -> NoReturn:
    """Entry of `python -m launch.agent`."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, in four lines
    # Without this, torch 2.13 gives workers that are started again the addresses of their dead predecessors.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    given = sys.argv[1:]
    at = next((i for i in range(len(given)) if tuple(given[i : i + 2]) == ENTRY), None)
    if at is None:
        complain("there is no '-m launch.train'; give torchrun's options, then -m launch.train and its own")
        os._exit(2)
    status = guarded(["train", *given[at + 2 :]], lambda command: _run(command, given))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # what asks a machine that has gone would not end


def _run(command: Command, given: Sequence[str]) -> int:
    """Be torchrun's agent; the exit status."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    assert isinstance(command, Train)
    logging.disable(logging.ERROR)
    if hasattr(os, "waitid"):  # not on macOS before Python 3.13
        threading.Thread(target=_watch, args=(command.options.timeout_s,), daemon=True).start()
    try:
        torchrun.run(torchrun.parse_args(list(given)))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:  # the worker has said why
            return failure.exitcode
        raise WorkerFailure(f"rank {rank} was killed by {signal.Signals(-failure.exitcode).name}") from None
    except SignalException as error:
        raise Stopped(int(error.sigval), "; all workers have ended") from None
    except RendezvousError as error:
        raise WorkerFailure(f"the machines did not meet, or one has gone ({type(error).__name__})") from None
    return 0


def _watch(timeout_s: float) -> NoReturn:
    """Keep the deadlines that torchrun has not; where it can do nothing more, end it and so its workers."""
    limits = {"stopped": timeout_s, "unnoticed": AGENT_S, "alone": max(timeout_s, MEETING_S)}
    state, since_s = "", 0.0
    while True:
        time.sleep(WATCH_S)
        before, state = state, _state()
        if state != before:
            since_s = time.monotonic()
        elif time.monotonic() - since_s > limits.get(state, float("inf")):
            if state != "stopped":
                complain(f"no other machine has answered for {limits[state]:g} s")
                os._exit(FAILURE)
            end_stopped(os.getpid(), timeout_s)


def _state() -> str:
    """How it stands with the workers of this agent."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "alone"
    if ended is not None:
        return "unnoticed"
    return "stopped" if stopped_workers(os.getpid()) else "at work"


if __name__ == "__main__":
    main()
