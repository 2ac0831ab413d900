"""How a worker's end is told: mistakes, failures, and consequences of another's failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import PeerLost
from launch.local import WorkerFailure, _explained
from launch.outcome import Outcome, outcome_of, read_outcomes
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
    ],
)
def test_what_an_exception_means(error: Exception, kind: str, message: str) -> None:
    outcome = outcome_of(error, 1)
    assert outcome.kind == kind
    assert outcome.message.startswith(message)
    assert type(error).__name__ in outcome.trace


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


def test_the_explanation_names_the_rank_that_failed_first(tmp_path: Path) -> None:
    lost = Outcome(rank=0, kind="lost", message="RuntimeError: peer", trace="T0")
    broken = Outcome(rank=1, kind="failure", message="KeyError: 'x'", trace="T1")
    assert str(_explained({0: 1, 1: 1}, [broken, lost], None)) == "rank 1 failed: KeyError: 'x'\nT1"
    assert "rank 2 of the workers was killed by SIGKILL" in str(
        _explained({0: -15, 1: 1, 2: -9}, [lost], None)
    )
    assert str(_explained({0: -15, 1: 1}, [broken], None)).startswith("rank 1 failed")
    assert "rank 1 ended with status 3 and said nothing" in str(_explained({1: 3}, [], None))
    assert "rank 1 ended with status 3" in str(_explained({0: -15, 1: 3}, [], None))
    assert "rank 1 ended with status 3" in str(_explained({0: 1, 1: 3}, [lost], None))
    assert "rank 0 ended with status -15" in str(_explained({0: -15}, [], None))
    assert str(_explained({0: 1, 1: -15}, [lost], None)).startswith(
        "rank 0 lost another rank: RuntimeError: peer"
    )
    wrong = _explained({0: 2}, [Outcome(rank=0, kind="mistake", message="2 parts but 3 workers")], None)
    assert isinstance(wrong, ValueError)
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "rank_1.txt").write_text("T1")
    assert str(_explained({1: 1}, [broken], tmp_path)).endswith(
        f"its traceback is in {tmp_path}/errors/rank_1.txt"
    )
    (tmp_path / "checkpoints" / "epoch_000010").mkdir(parents=True)
    assert "--resume goes on from the last checkpoint" in str(_explained({0: -9}, [], tmp_path))
