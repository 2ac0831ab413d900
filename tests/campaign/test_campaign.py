"""A few cases of every driver, and drivers that notice when a promise is broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.campaign import calls, kills, runs
from tests.campaign.calls import Calls
from tests.campaign.disks import Disks
from tests.campaign.driver import Driver, Unable, one_line
from tests.campaign.files import Files
from tests.campaign.kills import Kills
from tests.campaign.links import Links


@pytest.mark.slow
@pytest.mark.parametrize(
    ("driver", "cases"),
    [(Kills(), [0]), (Files(), [0, 1]), (Calls(), range(60)), (Disks(), [0, 4]), (Links(), [0])],
    ids=["kills", "files", "calls", "disks", "links"],
)
def test_promises_are_kept(
    driver: Driver, cases: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one setting; for a disk that is full when rows are predicted see tests/launch/test_command.py."""
    monkeypatch.setattr(kills, "KILLS", 2)
    for case in cases:
        folder = tmp_path / str(case)
        folder.mkdir()
        try:
            result = driver.run(case, folder)
        except Unable as error:
            pytest.skip(str(error))
        assert not result.faults
        assert result.tried


def test_a_broken_promise_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "called", lambda arguments: (1, "Traceback (most recent call last):\n  x\n"))
    assert len(Calls().run(0, tmp_path).faults) == 2
    assert not one_line("bnsgcn: error: a\nbnsgcn: error: b\n")
    assert not one_line("bnsgcn: error: \x1b[31m\n")
    assert one_line("bnsgcn: error: a\n")


def test_a_hole_in_the_lines_is_noticed() -> None:
    lines = [{"epoch": epoch} for epoch in range(runs.EPOCHS) if epoch != 7]
    expected = {"weights": "a", "lines": [{"epoch": epoch} for epoch in range(runs.EPOCHS)]}
    found = runs.differences({"weights": "a", "lines": lines}, expected)
    assert found[0] == "lines"
    assert "epochs" in found[1]
