"""A few cases of every driver, and drivers that notice when a promise is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import calls, runs
from tests.campaign.calls import Calls
from tests.campaign.disks import Disks
from tests.campaign.driver import Driver, Unable, one_line
from tests.campaign.files import Files
from tests.campaign.kills import Kills
from tests.campaign.links import Links


@pytest.mark.slow
@pytest.mark.parametrize(
    ("driver", "cases"), [(Kills(), 1), (Files(), 2), (Calls(), 60), (Disks(), 3), (Links(), 1)]
)
def test_promises_are_kept(driver: Driver, cases: int, tmp_path: Path) -> None:
    for case in range(cases):
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
