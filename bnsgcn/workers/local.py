"""Does a job on workers of this machine, or says what became of it. Nothing here listens beyond loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from bnsgcn.capacity import core_count
from bnsgcn.record.tracker import Tracker
from bnsgcn.workers.crew import POLL_S, Crew, End
from bnsgcn.workers.outcome import Outcome, read_outcomes
from bnsgcn.workers.relayed import RelayedEvents
from bnsgcn.workers.verdict import Evidence, verdict
from bnsgcn.workers.worker import Job
from partition.errors import Stopped

GRACE_S = 1.0
"""How long the cause may take to show itself after a rank has ended because it lost another."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run_local(job: Job, *, relayed: bool = False, told: Sequence[Tracker] = ()) -> list[Any]:
    """Do `job` on local workers; their results by rank. When it returns or raises, no worker is left.

    Args:
        relayed: whether this process prints what the workers do; where it does not, they print it themselves.
        told: trackers in this process, which hear of a training soon after it happens.

    Raises:
        UserError: A worker found a mistake of the user.
        WorkerFailure: A worker failed, was killed or stopped, or did not answer.
        Stopped: This process was told to end.
    """
    with _signals_noted() as signals, tempfile.TemporaryDirectory(prefix="bnsgcn-") as name:
        folder = Path(name)
        events = RelayedEvents(folder / "events.jsonl", told)
        wanted = {"events": str(events.path)} if told else {}
        whole = dataclasses.replace(job, arguments=job.arguments | wanted)
        (folder / "job.json").write_text(json.dumps(dataclasses.asdict(whole)))
        with Crew(folder, _environments(job, folder), relayed=relayed) as crew:
            evidence = _watch(crew, job, folder, signals, events)
        events.relay()
        outcomes = read_outcomes(folder)
    if signals:
        raise Stopped(signals[0], "; all workers have ended")
    if evidence is not None:
        raise verdict(evidence, outcomes, job)
    return [outcome.result for outcome in sorted(outcomes, key=lambda outcome: outcome.rank)]


def _watch(crew: Crew, job: Job, folder: Path, signals: list[int], events: RelayedEvents) -> Evidence | None:
    """Wait until all ranks are done; what is to be seen of them if one failed instead."""
    bad_since_s = 0.0
    while not signals:
        crew.relay()
        events.relay()
        ends = crew.ends()
        outcomes = {outcome.rank: outcome for outcome in read_outcomes(folder)} if ends else {}
        bad = [end for end in ends if end.rank not in outcomes or outcomes[end.rank].kind != "done"]
        if len(ends) == job.workers and not bad:
            return None
        if bad and not all(_consequence(end, outcomes) for end in bad):
            return Evidence(ends=ends)
        if bad:
            bad_since_s = bad_since_s or time.monotonic()
            if len(ends) == job.workers or time.monotonic() > bad_since_s + GRACE_S:
                return Evidence(ends=ends, stopped=crew.stopped(), stacks=crew.stacks())
        elif ends and time.time() > ends[0].at_s + job.timeout_s and crew.stopped():
            return Evidence(ends=ends, stopped=crew.stopped())
        time.sleep(POLL_S)
    return None


def _consequence(end: End, outcomes: dict[int, Outcome]) -> bool:
    """Whether a rank ended because of another; nccl ends a process so by SIGABRT."""
    if end.rank in outcomes:
        return outcomes[end.rank].kind == "lost"
    return end.status == -signal.SIGABRT


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """The signals that told this process to end, in place of what they do otherwise.

    So no signal, and no second one, cuts off the ending of the workers. What is ignored (nohup) stays so.
    """
    told: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        told.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, note)
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environments(job: Job, folder: Path) -> list[dict[str, str]]:
    """What each rank inherits: who it is, its threads, loopback alone, and silence from libraries."""
    threads = str(job.threads or max(1, core_count() // job.workers))
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")
    common = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    common |= {
        "BNSGCN_MEETING": str(folder / "meeting"),
        "WORLD_SIZE": str(job.workers),
        "LOCAL_WORLD_SIZE": str(job.workers),
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        "PYTHONSAFEPATH": "1",
        "DGLBACKEND": "pytorch",
    }
    home = Path(__file__).resolve().parents[2]
    if home.name != "site-packages":  # started from a checkout that is perhaps not installed
        known = os.environ.get("PYTHONPATH")
        common["PYTHONPATH"] = os.pathsep.join([str(home), *([known] if known else [])])
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(job.workers)]
