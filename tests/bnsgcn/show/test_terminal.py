"""The face on terminals of 60, 80 and 200 columns, resized in between, seen as a person sees it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bnsgcn.show.screen import Screen, Terminal

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, sys
from bnsgcn.show import face as faces
from tests.bnsgcn.show.test_face import FACTS, SUMMARY, metrics

faces.REFRESH_S = 0.0
shown = faces.face(sys.argv[1])
os.write(1, b"\\a")
for line in sys.stdin:
    word, _, number = line.strip().partition(" ")
    if word == "start":
        note = "metric: micro-f1, by default of several labels a node "
        note += "(--metric chooses another, see the help)"
        shown.on_start(FACTS | {"notes": [note]})
    elif word == "epoch":
        shown.on_epoch(metrics(int(number)) | {"memory/peak_rss_bytes": 5.12e8, "time/draw_s": 0.001})
    else:
        shown.on_end(SUMMARY | {"least_rss_bytes": 2.5e8})
    os.write(1, b"\\a")
"""


@pytest.fixture
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    width, extra = request.param
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | extra
    opened = Terminal([sys.executable, "-c", PROGRAM, str(tmp_path)], width, environment)
    try:
        opened.wait_for_bell()
        yield opened
    finally:
        opened.close()


def show(screen: Screen) -> str:
    return "\n".join(["", "-" * screen.width, *screen.lines(), "-" * screen.width])


@pytest.mark.parametrize("terminal", [(60, {})], indirect=True)
def test_a_window_that_is_made_wider_and_narrower_again(terminal: Terminal) -> None:
    screen = terminal.screen
    terminal.say("start")
    heads = {}
    for epoch, width in enumerate([60, 60, 80, 200, 80, 60]):
        terminal.resize(width)
        terminal.say(f"epoch {epoch}")
        heads[epoch] = next(line for line in screen.lines() if line.startswith(" epoch"))
        assert sum(line.startswith(" epoch") for line in screen.lines()) == 1, show(screen)
        shown = next(line for line in screen.lines() if re.match(rf" +{epoch + 1} ", line))
        assert shown.endswith("12.3 MB"), "units never vanish"
        assert len(shown) <= width
    assert heads[0] == heads[1] == heads[5]
    assert "compute" not in heads[0]
    assert "reduce" in heads[2]
    assert "memory" not in heads[2]
    assert heads[2] == heads[4]
    assert "draw" in heads[3]
    assert "memory" in heads[3]
    assert not screen.cursor_shown
    terminal.say("end")
    assert screen.cursor_shown


@pytest.mark.parametrize(
    "terminal", [(width, {}) for width in (60, 80, 200)], indirect=True, ids=["60", "80", "200"]
)
def test_no_line_is_broken_within_a_figure(terminal: Terminal) -> None:
    """Of the whole output at the end: paths may go on in the next row, all else breaks between words."""
    screen = terminal.screen
    terminal.say("start")
    for epoch in range(40):
        terminal.say(f"epoch {epoch}")
    terminal.say("end")
    lines = screen.lines()
    text = "\n".join(lines)
    assert sum(bool(re.match(r" +\d+ ", line)) for line in lines) == 4, text
    assert "40/40" in text
    assert not re.search(r"\d\n *(s|ms|B|kB|MB|GB)\b", text), text
    words = " ".join(text.split())
    assert "epoch 1.50 s: compute 1.25 s, halo wait 125.0 ms, reduce 62.5 ms" in words
    assert "used 12.3 MB sent an epoch, 512.0 MB a worker at most (250.0 MB needed at least)" in words
    assert "metric: micro-f1, by default of several labels a node (--metric chooses another" in words
    assert "test micro-f1 0.7125 (validation 0.7500 after epoch 30 of 40)" in words
    tall = {60: 19, 80: 18, 200: 16}[screen.width]
    assert len([line for line in lines if line]) <= tall, text


@pytest.mark.parametrize("terminal", [(80, {"NO_COLOR": "1"})], indirect=True)
def test_no_colour_where_none_is_wanted(terminal: Terminal) -> None:
    terminal.say("start")
    terminal.say("epoch 9")
    terminal.say("end")
    numbers = {int(piece) for given in terminal.screen.colours for piece in given.split(";") if piece}
    assert not {number for number in numbers if 30 <= number <= 49 or 90 <= number <= 107}
