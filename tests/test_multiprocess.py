"""The multi-process helper: results in order, and every way in which a rank can fail."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from bnsgcn.dist import World
from tests.multiprocess import RankFailure, run_ranks

pytestmark = pytest.mark.multi


def add_up(world: World, start: float) -> tuple[int, float, int]:
    total = world.all_reduce(torch.tensor([start + world.rank]))
    return world.rank, float(total[0]), torch.get_num_threads()


def process_id(world: World) -> int:
    return os.getpid()


def fail_on_one(world: World, how: str) -> None:
    if world.rank == 1:
        if how == "raise":
            raise ArithmeticError("seven is not eight")
        if how == "exit":
            sys.exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    world.barrier()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_results_come_in_rank_order_from_one_thread_each(size: int, tmp_path: Path) -> None:
    results = run_ranks(add_up, size, tmp_path, 0.5)
    total = sum(0.5 + rank for rank in range(size))
    assert results == [(rank, total, 1) for rank in range(size)]


def test_processes_are_kept_unless_fresh_ones_are_asked_for(tmp_path: Path) -> None:
    first = run_ranks(process_id, 2, tmp_path)
    assert run_ranks(process_id, 2, tmp_path) == first
    assert not set(run_ranks(process_id, 2, tmp_path, fresh=True)) & set(first)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", r"rank 1 of 2 raised\n(.*\n)*.*ArithmeticError: seven is not eight"),
        ("exit", "rank 1 of 2 exited with status 3"),
        ("kill", "rank 1 of 2 was killed by signal 9"),
        ("sleep", r"rank 1 was not done after 5 s, at\n(.*\n)*.*in fail_on_one"),
    ],
    ids=["raise", "exit", "kill", "sleep"],
)
def test_a_failing_rank_fails_the_call_and_ends_the_others(how: str, message: str, tmp_path: Path) -> None:
    before = run_ranks(process_id, 2, tmp_path)
    with pytest.raises(RankFailure, match=message):
        run_ranks(fail_on_one, 2, tmp_path, how, timeout_s=5 if how == "sleep" else 60)
    for child in before:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert run_ranks(add_up, 2, tmp_path, 1.0)[0][1] == 3.0
