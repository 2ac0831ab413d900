"""A group of worker processes that starts once and trains many configurations, one after the other.

Starting Python and torch costs seconds, training a small graph less; a study of hundreds of runs pays the
start once. Every worker gets every job over its own queue and joins the collectives of the same runs in the
same order.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.store import Part, open_part

JOB_TIMEOUT_S = 900.0
Body = Callable[[World, Part, TrainConfig], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One training run."""

    parts_dir: str
    config: dict[str, Any]


class Curve:
    """A listener that keeps what every epoch measured."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_start(self, facts: dict[str, Any]) -> None:
        """Nothing to keep."""

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Keep the line."""
        self.epochs.append(dict(metrics))

    def on_end(self, summary: dict[str, Any]) -> None:
        """Nothing to keep."""


def _train(world: World, part: Part, config: TrainConfig) -> dict[str, Any]:
    curve = Curve()
    start = time.perf_counter()
    summary = Trainer(world, part, build_model(part.manifest, config), config, listener=curve).fit()
    scores = [(e["epoch"] + 1, e["val_score"], e["test_score"]) for e in curve.epochs if "val_score" in e]
    sent = sum(e["comm/sent_bytes"] for e in curve.epochs)
    return {**summary, "sent_bytes": sent, "curve": scores, "run_s": time.perf_counter() - start}


def _next(jobs: Any, parent: int) -> Job | None:
    """The next job; None when there is none any more, or nobody to give one."""
    while os.getppid() == parent:
        try:
            return jobs.get(timeout=2.0)
        except queue.Empty:
            continue
    return None


def _work(rank: int, size: int, rendezvous: str, jobs: Any, answers: Any, body: Body) -> None:
    parent = os.getppid()
    torch.set_num_threads(1)
    world = World.join(rendezvous, rank=rank, size=size, timeout_s=JOB_TIMEOUT_S)
    opened: dict[str, Part] = {}
    while (job := _next(jobs, parent)) is not None:
        try:
            if job.parts_dir not in opened:
                opened = {job.parts_dir: open_part(job.parts_dir, rank, verify=False)}
            answers.put((rank, body(world, opened[job.parts_dir], TrainConfig.from_json(job.config)), None))
        except Exception:
            answers.put((rank, None, traceback.format_exc()))
            break
    world.close()


class Group:
    """`size` workers; use as a context manager."""

    def __init__(self, size: int, body: Body = _train) -> None:
        """`body`: what a job is, a function of a module."""
        self._size, self._body = size, body

    def __enter__(self) -> Group:
        spawn = mp.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._jobs = [spawn.Queue() for _ in range(self._size)]
        self._answers = spawn.Queue()
        rendezvous = str(Path(self._folder.name) / "rendezvous")
        self._processes = [
            spawn.Process(
                target=_work, args=(rank, self._size, rendezvous, self._jobs[rank], self._answers, self._body)
            )
            for rank in range(self._size)
        ]
        for process in self._processes:
            process.start()
        return self

    def run(self, job: Job) -> dict[str, Any]:
        """Rank 0's answer; of a training its summary, with the curve of (epochs, validation, test score)."""
        for jobs in self._jobs:
            jobs.put(job)
        answers: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while len(answers) < self._size:
            try:
                rank, summary, error = self._answers.get(timeout=5.0)
            except queue.Empty:
                self._check_alive(deadline)
                continue
            if error is not None:
                raise RuntimeError(f"rank {rank} of {self._size} failed on {job}\n{error}")
            answers[rank] = summary
        return answers[0]

    def _check_alive(self, deadline: float) -> None:
        dead = [rank for rank, process in enumerate(self._processes) if not process.is_alive()]
        if dead:
            raise RuntimeError(f"ranks {dead} of {self._size} ended without an answer")
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answer within {JOB_TIMEOUT_S:.0f} s")

    def __exit__(self, *exception: object) -> None:
        for jobs in self._jobs:
            jobs.put(None)
        for process in self._processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()
        self._folder.cleanup()
