"""Options of BNS-GCN and PipeGCN: the answer on the command line and the site's table are one."""

from __future__ import annotations

import re
from pathlib import Path

from bnsgcn.config import TrainConfig
from launch.options import THEMES
from launch.originals import OURS, answer, table
from launch.parse import options_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from" / "bns-gcn.md"


def test_the_site_has_the_table() -> None:
    assert "<!-- code: originals -->" in PAGE.read_text()
    assert table().count("\n") >= len(set(OURS.values()))


def test_what_stands_for_theirs_exists() -> None:
    ours = {f"--{name}" for command in ("partition", "train") for name in options_of(command)}
    for theirs, words in OURS.items():
        assert theirs not in ours
        for named in re.findall(r"--[a-z-]+", words):
            assert named in ours
            assert named in answer(theirs)
    assert answer("--hidden") == ""


def test_every_option_of_a_run_has_a_theme_at_most_once() -> None:
    fields = [field for theme in THEMES.values() for field in theme]
    assert len(fields) == len(set(fields))
    assert set(fields) <= set(TrainConfig.__dataclass_fields__)
