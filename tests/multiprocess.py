"""Runs a function on several ranks: file rendezvous, one thread a rank, a deadline.

    def body(world, x): ...                          # a function of a test module
    results = run_ranks(body, 3, tmp_path, x)        # [result of rank 0, rank 1, rank 2]

Ranks are forked with torch imported (tests/forked.py) and kept between calls; each call makes a new process
group. When any rank raises, exits, is killed or is still busy at the deadline, all of them are
ended, the call raises `RankFailure` with that rank's traceback, and the next call starts fresh processes.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import pickle
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests import forked

GRACE_S = 1.0
"""How long the other ranks may still report after the first failure."""
STACK_S = 20.0
"""How long a rank that is late may take to say where it is."""
NOT_MET = "connectFullMesh failed"


class RankFailure(AssertionError):
    """A rank did not return: its traceback, exit status or stack."""


def run_ranks(
    fn: Callable[..., Any],
    size: int,
    tmp_path: Path,
    *args: Any,
    timeout_s: float = 150,
    fresh: bool = False,
    device: str = "cpu",
) -> list[Any]:
    """Results of `fn(world, *args)` on `size` ranks, in rank order.

    Args:
        fn: A module-level function; arguments and results are pickled.
        timeout_s: Seconds for the whole call.
        fresh: Use processes of their own, ended afterwards (for tests that change or measure a process).
        device: Where the ranks compute: cpu, cuda (one GPU, gloo), or `late`, a CPU that copies as late as a
            device may (tests/bnsgcn/device/late_streams.py).

    Raises:
        RankFailure: A rank raised, exited or was not done in time.
    """
    ranks = [] if fresh else _kept
    _fill(ranks, size)
    try:
        results = _call(ranks[:size], fn, args, tmp_path, timeout_s, device)
    except BaseException as error:
        _end(ranks)
        if NOT_MET in str(error):  # before `fn`: on a busy machine gloo sometimes fails to connect
            return run_ranks(fn, size, tmp_path, *args, timeout_s=timeout_s, fresh=fresh, device=device)
        raise
    if fresh:
        _end(ranks)
    return results


class _Rank:
    """One child process and the line to it."""

    def __init__(self) -> None:
        self.line, theirs = Pipe()
        with theirs:
            self.process = forked.start(serve, theirs, dict(os.environ))

    def ended(self) -> int | None:
        """The exit status, or minus a signal's number; None of one that runs."""
        return self.process.exitcode

    def ask_for_its_stack(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGUSR1)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.line.close()


_kept: list[_Rank] = []


def _fill(ranks: list[_Rank], size: int) -> None:
    if any(rank.ended() is not None for rank in ranks):
        _end(ranks)
    while len(ranks) < size:
        ranks.append(_Rank())


def _end(ranks: list[_Rank]) -> None:
    for rank in ranks:
        rank.end()
    ranks.clear()


atexit.register(_end, _kept)


def _call(
    ranks: list[_Rank],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    tmp_path: Path,
    timeout_s: float,
    device: str,
) -> list[Any]:
    meeting = tmp_path / f"rendezvous-{uuid.uuid4().hex}"
    function = pickle.dumps((fn, args))
    for index, rank in enumerate(ranks):
        rank.line.send((list(sys.path), index, len(ranks), str(meeting), timeout_s, device, function))
    answers: dict[int, Any] = {}
    failures: list[str] = []
    deadline = time.monotonic() + timeout_s
    while len(answers) < len(ranks):
        waiting = [rank for index, rank in enumerate(ranks) if index not in answers]
        ready = wait([rank.line for rank in waiting], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for index, rank in enumerate(ranks):
            if rank.line in ready:
                good, answer = _receive(rank)
                answers[index] = answer
                if not good:
                    failures.append(f"rank {index} of {len(ranks)} {answer}")
                    deadline = min(deadline, time.monotonic() + GRACE_S)
    if failures:
        raise RankFailure("\n".join(failures))
    if len(answers) < len(ranks):
        raise RankFailure(_late(ranks, answers, meeting, timeout_s))
    return [pickle.loads(answers[index]) for index in range(len(ranks))]


def _receive(rank: _Rank) -> tuple[bool, Any]:
    try:
        good, answer = rank.line.recv()
    except (EOFError, ConnectionResetError):
        rank.process.join()
        status = rank.process.exitcode or 0
        return False, f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    return good, answer


def _late(ranks: list[_Rank], answers: dict[int, Any], meeting: Path, timeout_s: float) -> str:
    """What the ranks that are not done are doing: their stacks."""
    late = [index for index in range(len(ranks)) if index not in answers]
    for index in late:
        ranks[index].ask_for_its_stack()
    deadline = time.monotonic() + STACK_S
    while not all(_stack(meeting, index).read_text() for index in late) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)  # the rest of it
    stacks = [
        f"rank {i} was not done after {timeout_s:g} s, at\n{_stack(meeting, i).read_text()}" for i in late
    ]
    return "\n".join(stacks)


def _stack(meeting: Path, index: int) -> Path:
    return meeting.with_name(f"{meeting.name}-stack-{index}")


def serve(line: Connection, environment: dict[str, str]) -> None:
    """The child's loop: one call after the other until the line closes."""
    os.environ.clear()  # those of the fork server are of the test that happened to start it
    os.environ.update(environment | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            sys.path[:], index, size, meeting, timeout_s, device, function = line.recv()
        except EOFError:
            return
        with _stack(Path(meeting), index).open("w") as stack:
            faulthandler.register(signal.SIGUSR1, stack)
            line.send(_answer(index, size, meeting, timeout_s, device, function))
            faulthandler.unregister(signal.SIGUSR1)


def _answer(
    index: int, size: int, meeting: str, timeout_s: float, device: str, function: bytes
) -> tuple[bool, Any]:
    import torch

    from bnsgcn.dist import World
    from tests.bnsgcn.device.late_streams import LateStreams

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    try:
        fn, args = pickle.loads(function)
        where: dict[str, Any] = {"streams": LateStreams()} if device == "late" else {"device": device}
        world = World.join(meeting, rank=index, size=size, timeout_s=max(30.0, timeout_s), **where)
        result = pickle.dumps(fn(world, *args))
        if torch.distributed.is_initialized():
            # A rank that is done must not leave while others still connect; one may have left on purpose.
            with contextlib.suppress(RuntimeError):
                world.barrier()
        world.close()
    except Exception:
        return False, f"raised\n{traceback.format_exc()}"
    return True, result
