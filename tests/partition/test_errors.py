"""Messages are one line that a terminal can show."""

from __future__ import annotations

import pytest

from partition.errors import UserError, nearest, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with an é and 图", "plain, with an é and 图"),
        ("two\nlines\r\nand\ta tab", "two lines and a tab"),
        ("red \x1b[31m, title \x1b]0;x\x07", r"red \x1b[31m, title \x1b]0;x\x07"),
        ("c1 \x9b31m, delete \x7f", r"c1 \x9b31m, delete \x7f"),
        ("turned \u202e round, \u2028 next", r"turned \u202e round,   next"),
        ("half a pair \udc80", r"half a pair \udc80"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(UserError(text)) == shown
    assert one_line(ValueError(text)) == " ".join(shown.split())


def test_one_line_is_short_and_never_empty() -> None:
    assert len(one_line(ValueError("long " * 1000))) == 300
    assert one_line(KeyError()) == "KeyError"


def test_nearest() -> None:
    assert nearest("nodse", ["nodes", "degree"]) == "; did you mean 'nodes'?"
    assert nearest("x", ["nodes"]) == ""


def test_a_long_line_keeps_its_ends() -> None:
    line = str(UserError("start " + "x" * 5000 + " way out"))
    assert line.startswith("start ")
    assert line.endswith(" way out")
    assert len(line) < 1000
