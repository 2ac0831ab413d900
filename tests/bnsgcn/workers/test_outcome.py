"""How a worker's end is told: mistakes, failures, and consequences of another's failure."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.pending import PeerLost
from bnsgcn.workers.outcome import LESS_MEMORY, Kind, Outcome, WorkerFailure, outcome_of, read_outcomes
from partition.errors import UserError


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (UserError("2 parts but\n 3 workers"), "mistake", "2 parts but 3 workers"),
        (ValueError("not of ours"), "failure", "ValueError: not of ours"),
        (
            PeerLost("the connection to rank 0 has broken"),
            "lost",
            "the connection to rank 0",
        ),
        (RuntimeError("expected a tensor"), "failure", "RuntimeError: expected a tensor"),
        (RuntimeError("Connection closed by peer; a socket timeout"), "failure", "RuntimeError: Connection"),
        (KeyError("x"), "failure", "KeyError: 'x'"),
        (OSError(28, "checkpoint epoch_000020 cannot be written"), "failure", "[Errno 28] checkpoint"),
        (WorkerFailure("rank 1 went"), "failure", "rank 1 went"),
        (
            MemoryError("Unable to allocate 3 TiB"),
            "failure",
            "not enough memory: Unable to allocate 3 TiB; part",
        ),
    ],
)
def test_what_an_exception_means(error: Exception, kind: str, message: str) -> None:
    outcome = outcome_of(error, 1)
    assert outcome.kind == kind
    assert outcome.message.startswith(message)
    assert type(error).__name__ in outcome.trace


@pytest.mark.parametrize("task", ["train", "predict"])
def test_torchs_lack_of_memory_is_known_and_the_way_out_fits_the_task(task: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    said = outcome_of(caught.value, 0, task=task).message
    assert said.startswith("not enough memory: ")
    assert said.endswith(f"; {LESS_MEMORY[task]}")


def test_a_bad_option_is_a_mistake_wherever_it_is_found() -> None:
    with pytest.raises(ValueError) as caught:
        TrainConfig(layers=0)
    assert outcome_of(caught.value, 0).kind == "mistake"


def test_causes_come_before_consequences_and_then_by_time(tmp_path: Path) -> None:
    Outcome(rank=0, kind="lost", at_s=1.0).write(tmp_path)
    Outcome(rank=1, kind="failure", message="late", at_s=3.0).write(tmp_path)
    Outcome(rank=2, kind="done", result=[1], at_s=0.5).write(tmp_path)
    Outcome(rank=3, kind="failure", message="early", at_s=2.0).write(tmp_path)
    assert [outcome.rank for outcome in read_outcomes(tmp_path)] == [3, 1, 0, 2]


def test_the_traceback_of_all_but_mistakes_is_kept_in_the_run_folder(tmp_path: Path) -> None:
    assert outcome_of(KeyError("x"), 1, tmp_path).kept == "", "this is no run folder"
    (tmp_path / "config.json").write_text("{}")
    assert outcome_of(UserError("2 parts but 3 workers"), 0, tmp_path).kept == ""
    kept = outcome_of(KeyError("x"), 1, tmp_path).kept
    assert kept == str(tmp_path / "errors" / "rank_1.txt")
    assert Path(kept).read_text() == "KeyError: 'x'\n"


def test_a_full_disk_needs_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "errors").write_text("a file, so that nothing can be written into this folder")
    full = outcome_of(OSError(errno.ENOSPC, "checkpoint epoch_000020 cannot be written"), 0, tmp_path)
    assert (full.kept, full.traceback()) == ("", "")
    assert (
        outcome_of(OSError(errno.EIO, "Input/output error"), 0, tmp_path).traceback().startswith("\nOSError")
    )


@pytest.mark.parametrize(("kind", "status"), [("done", 0), ("mistake", 2), ("failure", 1), ("lost", 1)])
def test_the_exit_status(kind: Kind, status: int) -> None:
    assert Outcome(rank=0, kind=kind).status == status
