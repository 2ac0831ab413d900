"""When an epoch ends: the steps of all workers, messages between them and cores that they share, played.

A worker's epoch is a list of steps. It computes, posts rows for its readers, waits for the rows of a lane,
and reduces gradients with all others at the end. A message leaves when it is posted, after the messages that
are before it in its sender's link and in its reader's, and arrives a latency and its bytes over the link
later. Workers that compute at the same time share the cores. Of a pipeline, which reads what was posted an
epoch ago, a few epochs are played until it has come to its pace, and the last ones count.

    P workers
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

_PIPELINED, _COUNTED = 6, 3
"""Epochs of a pipeline that are played, and those of them that count."""
_SOON = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochStep:
    """One thing that a worker does.

    compute: for `seconds`, `extra_s` of draws, packing and smoothing, and `transport_s` of the threads that
    move rows.   post: `sent` bytes to each worker, [P], through a lane.   wait: for all that others have
    posted for it in the lane, `age` epochs ago.   reduce: with all workers.
    """

    kind: Literal["compute", "post", "wait", "reduce"]
    seconds: float = 0.0
    extra_s: float = 0.0
    transport_s: float = 0.0
    lane: str = ""
    sent: tuple[int, ...] = ()
    age: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What carries messages: a worker's link each way, the delay of a message, the reduction."""

    bytes_per_s: float
    latency_s: float
    reduce_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Played:
    """Of an epoch: its seconds; of every worker the seconds in which it waits, and in which it computes."""

    epoch_s: float
    waiting_s: tuple[float, ...]
    computing_s: tuple[float, ...]


class _Worker:
    """Where a worker is in its steps."""

    def __init__(self, steps: Sequence[EpochStep], epochs: int, factors: tuple[float, float]) -> None:
        self._factors = factors
        self.steps = [*steps, EpochStep(kind="reduce")]
        self.epoch, self.at = 0, -1
        self.left_s = 0.0
        self.waiting_s, self.computing_s = [0.0] * epochs, [0.0] * epochs

    @property
    def step(self) -> EpochStep:
        return self.steps[self.at]

    @property
    def computes(self) -> bool:
        return self.at >= 0 and self.step.kind == "compute"

    def move_on(self) -> None:
        """To the next step that takes time."""
        self.at += 1
        plain, extra = self._factors
        self.left_s = plain * self.step.seconds + extra * self.step.extra_s + self.step.transport_s


def play(
    workers: Sequence[Sequence[EpochStep]],
    network: Network,
    at_once: float = math.inf,
    factors: tuple[float, float] = (1.0, 1.0),
) -> Played:
    """One epoch of all workers together.

    Args:
        at_once: how many workers can compute at once at full speed.
        factors: on `seconds` and `extra_s` of all steps.
    """
    return _Play(workers, network, at_once, factors).run()


class _Play:
    """The state of all workers and messages."""

    def __init__(
        self,
        workers: Sequence[Sequence[EpochStep]],
        network: Network,
        at_once: float,
        factors: tuple[float, float],
    ) -> None:
        self._network, self._at_once = network, at_once
        pipelined = any(step.age for steps in workers for step in steps)
        self._epochs, self._counted = (_PIPELINED, _COUNTED) if pipelined else (1, 1)
        self._workers = [_Worker(steps, self._epochs, factors) for steps in workers]
        self._out, self._into = [0.0] * len(workers), [0.0] * len(workers)
        self._arrived: dict[tuple[str, int, int], tuple[int, float]] = {}
        self._senders: dict[tuple[str, int], int] = {}
        for steps in workers:
            for step in steps:
                for reader, count in enumerate(step.sent):
                    if count:
                        key = (step.lane, reader)
                        self._senders[key] = self._senders.get(key, 0) + 1
        self._now_s = 0.0
        self._ends = [0.0]

    def run(self) -> Played:
        """Play all epochs."""
        for rank, worker in enumerate(self._workers):
            worker.move_on()
            self._post(rank)
        while len(self._ends) <= self._epochs:
            self._advance()
        count = self._counted
        return Played(
            epoch_s=(self._ends[-1] - self._ends[-1 - count]) / count,
            waiting_s=tuple(sum(worker.waiting_s[-count:]) / count for worker in self._workers),
            computing_s=tuple(sum(worker.computing_s[-count:]) / count for worker in self._workers),
        )

    def _advance(self) -> None:
        """To the next moment at which a worker goes on."""
        computing = [worker for worker in self._workers if worker.computes]
        speed = min(1.0, self._at_once / len(computing)) if computing else 1.0
        ends = [self._due(rank, speed) for rank in range(len(self._workers))]
        reduced = all(worker.step.kind == "reduce" for worker in self._workers)
        until = self._reduced_at() if reduced else min(ends)
        assert until < math.inf, "every worker waits for another"
        past = max(0.0, until - self._now_s)
        for worker in self._workers:
            kept = worker.computing_s if worker.computes else worker.waiting_s
            kept[worker.epoch] += past
            worker.left_s -= past * speed if worker.computes else 0.0
        self._now_s = max(self._now_s, until)
        if reduced:
            self._begin_epoch()
            return
        for rank, worker in enumerate(self._workers):
            if ends[rank] <= until + _SOON:
                worker.move_on()
                self._post(rank)

    def _due(self, rank: int, speed: float) -> float:
        """When a worker's present step ends, as things are; infinity: when another has done something."""
        worker = self._workers[rank]
        if worker.computes:
            return self._now_s + worker.left_s / speed
        if worker.step.kind == "reduce":
            return math.inf
        posted_in = max(0, worker.epoch - worker.step.age)
        come, last_s = self._arrived.get((worker.step.lane, posted_in, rank), (0, 0.0))
        complete = come == self._senders.get((worker.step.lane, rank), 0)
        return max(last_s, self._now_s) if complete else math.inf

    def _post(self, rank: int) -> None:
        """Let all rows leave that a worker posts before it does anything that takes time."""
        worker, network = self._workers[rank], self._network
        while worker.step.kind == "post":
            for reader, count in enumerate(worker.step.sent):
                if count == 0:
                    continue
                begin, taken = self._now_s + network.latency_s, count / network.bytes_per_s
                self._out[rank] = max(begin, self._out[rank]) + taken
                self._into[reader] = max(begin, self._into[reader]) + taken
                end = max(self._out[rank], self._into[reader])
                key = (worker.step.lane, worker.epoch, reader)
                come, last_s = self._arrived.get(key, (0, 0.0))
                self._arrived[key] = (come + 1, max(last_s, end))
            worker.move_on()

    def _reduced_at(self) -> float:
        """The reduction travels behind the rows that are still under way between the same workers."""
        return max(self._now_s, *self._out, *self._into) + self._network.reduce_s

    def _begin_epoch(self) -> None:
        self._ends.append(self._now_s)
        if len(self._ends) > self._epochs:
            return
        for rank, worker in enumerate(self._workers):
            worker.epoch, worker.at = worker.epoch + 1, -1
            worker.move_on()
            self._post(rank)
