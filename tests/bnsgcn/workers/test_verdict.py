"""What the launcher says of a launch that failed: a consequence only where no cause is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnsgcn.workers.crew import End
from bnsgcn.workers.outcome import Outcome, WorkerFailure
from bnsgcn.workers.verdict import Evidence, verdict
from bnsgcn.workers.worker import Job
from partition.errors import UserError

LOST = Outcome(rank=0, kind="lost", message="rank 1 has not answered for 8 s", trace="T0", at_s=4.0)
BROKEN = Outcome(rank=1, kind="failure", message="KeyError: 'x'", trace="T1", at_s=5.0)
WAITING = 'File "/x/bnsgcn/dist.py", line 64 in wait'
BUSY = 'File "/x/own_model.py", line 3 in forward'


def said(
    statuses: dict[int, int],
    outcomes: list[Outcome],
    *,
    stopped: list[int] | None = None,
    stacks: dict[int, str] | None = None,
    run_dir: Path | None = None,
) -> str:
    """The verdict's words, for ranks that ended with `statuses` one after the other."""
    ends = [End(rank=rank, status=status, at_s=10.0 + i) for i, (rank, status) in enumerate(statuses.items())]
    job = Job(task="train", workers=3, timeout_s=8.0, arguments={"run_dir": run_dir and str(run_dir)})
    found = verdict(Evidence(ends=ends, stopped=stopped or [], stacks=stacks or {}), outcomes, job)
    assert isinstance(found, WorkerFailure)
    return str(found)


@pytest.mark.parametrize(
    ("statuses", "outcomes", "words"),
    [
        ({1: 1, 0: 1}, [BROKEN, LOST], "rank 1 failed: KeyError: 'x'\nT1"),
        ({0: 1, 2: -9}, [LOST], "rank 2 of the workers was killed by SIGKILL"),
        ({0: 1, 2: -15}, [BROKEN, LOST], "rank 2 of the workers was killed by SIGTERM"),
        ({1: 3}, [], "rank 1 ended with status 3 and said nothing"),
        ({1: 0}, [], "rank 1 ended with status 0 and said nothing"),
        ({0: 1, 1: 3}, [LOST], "rank 1 ended with status 3 and said nothing"),
        ({0: -6, 1: 3}, [], "rank 1 ended with status 3 and said nothing"),
        ({0: -6, 1: -9}, [], "rank 1 of the workers was killed by SIGKILL"),
        ({0: -6}, [], "rank 0 of the workers was killed by SIGABRT"),
        ({0: -6, 1: 1}, [BROKEN], "rank 1 failed: KeyError: 'x'\nT1"),
        ({0: 1}, [LOST], "rank 0 lost another rank: rank 1 has not answered for 8 s\nT0"),
    ],
)
def test_causes_come_before_consequences(
    statuses: dict[int, int], outcomes: list[Outcome], words: str
) -> None:
    assert said(statuses, outcomes) == words


def test_a_rank_that_is_stopped_or_silent_is_named_before_those_that_waited_for_it() -> None:
    stopped = said({0: 1}, [LOST], stopped=[1], stacks={1: "", 2: WAITING})
    assert stopped == "rank 1 was stopped and did not answer within 8 s (--timeout-s)"
    silent = said({0: 1}, [LOST], stacks={1: WAITING, 2: BUSY})
    assert silent == f"rank 2 did not answer within 8 s (--timeout-s)\n{BUSY}"
    assert said({0: -6}, [], stopped=[1]).startswith("rank 1 was stopped")
    all_wait = said({0: 1}, [LOST], stacks={1: WAITING, 2: WAITING})
    assert all_wait.startswith("rank 0 lost another rank")


def test_a_mistake_stays_one() -> None:
    mistake = Outcome(rank=0, kind="mistake", message="2 parts but 3 workers")
    job = Job(task="train", workers=2)
    found = verdict(Evidence(ends=[End(rank=0, status=2, at_s=1.0)]), [mistake, LOST], job)
    assert isinstance(found, UserError)
    assert str(found) == "2 parts but 3 workers"


def test_the_run_folder_has_what_is_too_long_for_a_line(tmp_path: Path) -> None:
    kept = Outcome(rank=1, kind="failure", message="KeyError: 'x'", trace="T1", kept="run/errors/rank_1.txt")
    assert said({1: 1}, [kept]) == "rank 1 failed: KeyError: 'x'; its traceback is in run/errors/rank_1.txt"
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "errors" / "rank_2.txt"
    assert said({0: 1}, [LOST], stacks={2: BUSY}, run_dir=tmp_path) == (
        f"rank 2 did not answer within 8 s (--timeout-s); where it was is in {path}"
    )
    assert path.read_text() == BUSY
    (tmp_path / "checkpoints" / "epoch_000010.partial").mkdir(parents=True)
    assert "--resume" not in said({1: -9}, [], run_dir=tmp_path)
    (tmp_path / "checkpoints" / "epoch_000010").mkdir()
    assert said({0: -9}, [], run_dir=tmp_path) == (
        "rank 0 of the workers was killed by SIGKILL; "
        "the same command with --resume goes on from the last checkpoint"
    )
