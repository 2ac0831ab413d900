"""Options of BNS-GCN and PipeGCN: the answer on the command line and the README's tables are one."""

from __future__ import annotations

import re
from pathlib import Path

from bnsgcn.config import TrainConfig
from launch.options import THEMES
from launch.originals import OURS, answer, table
from launch.parse import options_of

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def test_the_readme_has_the_table() -> None:
    assert table() in README


def test_what_stands_for_theirs_exists() -> None:
    ours = {f"--{name}" for command in ("partition", "train") for name in options_of(command)}
    for theirs, words in OURS.items():
        assert theirs not in ours
        for named in re.findall(r"--[a-z-]+", words):
            assert named in ours
            assert named in answer(theirs)
    assert answer("--hidden") == ""


def test_the_readme_groups_options_as_help_does() -> None:
    text = README.partition("### Options of `train`, by theme")[2].partition("\n\n#")[0]
    for theme, fields in THEMES.items():
        (row,) = re.findall(rf"^\| {theme} \| `(.*)` \|$", text, re.MULTILINE)
        named = [name[2:].replace("-", "_") for name in re.findall(r"--[a-z-]+", row)]
        assert [name for name in named if name != "config"] == list(fields)
        assert set(fields) <= set(TrainConfig.__dataclass_fields__)
