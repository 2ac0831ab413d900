"""What a run looks like, on a terminal and elsewhere."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, ConsoleDimensions

from bnsgcn.show import face as faces
from bnsgcn.show import units
from bnsgcn.show.face import LiveFace, PlainFace, epochs_table, face, headline, last_block
from bnsgcn.train.seal import Best, Seal

FACTS = {
    "name": "ring",
    "parts": 2,
    "model": "gcn",
    "epochs": 40,
    "start_epoch": 0,
    "nodes": 58_000,
    "arcs": 5_800_000,
    "parameters": 1_234,
    "kernel": "torch",
}
SUMMARY = {
    "metric": "micro-f1",
    "val_score": 0.75,
    "test_score": 0.7125,
    "best_epoch": 29,
    "epochs": 40,
    "epoch_s_median": 1.5,
    "compute_s_median": 1.25,
    "halo_wait_s_median": 0.125,
    "reduce_s_median": 0.0625,
    "sent_bytes_per_epoch": 12_300_000.0,
    "peak_rss_bytes": 5.12e8,
}


def metrics(epoch: int) -> dict[str, float]:
    line = {
        "epoch": epoch,
        "loss": 2.0 / (epoch + 1),
        "time/epoch_s": 1.5,
        "time/compute_s": 1.25,
        "time/halo_wait_s": 0.125,
        "time/reduce_s": 0.0625,
        "comm/sent_bytes": 12_300_000.0,
    }
    return line | {"val_score": 0.5 + epoch / 1000} if (epoch + 1) % 10 == 0 else line


class Terminal(io.StringIO):
    """Takes what is shown on a terminal."""

    def isatty(self) -> bool:
        return True


def run(shown: Any) -> None:
    shown.on_start(FACTS)
    for epoch in range(40):
        shown.on_epoch(metrics(epoch))
    shown.on_end(SUMMARY)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    newest = tmp_path / "checkpoints" / "epoch_000040"
    newest.mkdir()
    Seal(epoch=40, workers=2, identity={}, best=Best(epoch=30, score=0.75), files={}).write(newest)
    return tmp_path


def test_plain_lines_where_there_is_no_terminal(run_dir: Path) -> None:
    out = io.StringIO()
    plain = face(run_dir, Console(file=out, soft_wrap=True))
    assert isinstance(plain, PlainFace)
    run(plain)
    lines = out.getvalue().splitlines()
    assert lines[0] == "gcn on ring · 58.0 k nodes, 5.8 M arcs · 2 workers · 1,234 weights · torch kernels"
    assert lines[1].split() == [
        "epoch",
        "loss",
        "val",
        "score",
        "took",
        "compute",
        "halo",
        "wait",
        "reduce",
        "sent",
    ]
    rows = [line.split() for line in lines[2 : lines.index("")]]
    assert [row[0] for row in rows if row[2] != "-"] == ["10", "20", "30", "40"]
    assert "\x1b" not in out.getvalue()
    block = out.getvalue().rpartition("\n\n")[2].splitlines()
    assert block[0] == "test micro-f1 0.7125   (validation 0.7500 after epoch 30 of 40)"
    assert block[1] == "  epoch       1.50 s: compute 1.25 s, halo wait 125.0 ms, reduce 62.5 ms"
    assert block[2] == "  used        12.3 MB sent an epoch, 512.0 MB a worker at most"
    assert block[3] == f"  checkpoint  {run_dir}/checkpoints/epoch_000030"
    assert block[4] == f"  evaluate    bnsgcn evaluate {run_dir}"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_was_decided_for_the_user_is_said_above_the_table(terminal: bool, run_dir: Path) -> None:
    out = Terminal() if terminal else io.StringIO()
    shown = face(run_dir, Console(file=out, soft_wrap=True, force_terminal=terminal, width=100))
    shown.on_start(FACTS | {"notes": ["metric: micro-f1, by default", "a name with \x1b[2J"]})
    shown.on_end(SUMMARY)
    text = out.getvalue()
    assert text.index("  metric: micro-f1, by default\n") < text.index("halo wait")
    assert "\x1b[2J" not in text


def test_a_live_table_on_a_terminal(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "REFRESH_S", 0.0)
    out = Terminal()
    live = face(
        run_dir, Console(file=out, highlight=False, force_terminal=True, soft_wrap=True, width=100, height=30)
    )
    assert isinstance(live, LiveFace)
    live.on_start(FACTS)
    for epoch in range(25):
        live.on_epoch(metrics(epoch))
    shown = out.getvalue()
    assert "25/40" in shown
    assert "ETA" in shown
    assert "0.5090" in shown
    for epoch in range(25, 40):
        live.on_epoch(metrics(epoch))
    live.on_end(SUMMARY)
    assert "40/40" in out.getvalue()
    assert out.getvalue().rstrip().endswith(f"bnsgcn evaluate {run_dir}")
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 1, (
        "the cursor comes back"
    )


def test_the_estimate_counts_from_where_a_resumed_run_began(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 0.0, *[10.0] * 100])
    monkeypatch.setattr(faces.time, "monotonic", lambda: next(now))
    live = LiveFace(Console(file=io.StringIO(), force_terminal=True), run_dir)
    live.on_start(FACTS | {"start_epoch": 20})
    live._latest = metrics(24)
    assert live._time_to_go(25) == "ETA 0:30"  # 5 epochs took 10 s, 15 are left


@pytest.mark.parametrize(
    ("width", "missing"),
    [
        (30, {"took", "halo wait", "sent", "compute", "reduce", "draw", "memory"}),
        (60, {"compute", "reduce", "draw", "memory"}),
        (70, {"reduce", "draw", "memory"}),
        (80, {"draw", "memory"}),
        (100, set()),
        (200, set()),
    ],
)
@pytest.mark.parametrize("sent", [881_800.0, 999_960.0, 1.2e15])
def test_columns_are_whole_or_left_out(width: int, missing: set[str], sent: float) -> None:
    heads, line = epochs_table([metrics(9) | {"comm/sent_bytes": sent}], width)
    for name, *_ in faces.COLUMNS:
        assert (name in heads) == (name not in missing)
    assert len(heads) == len(line) <= width
    if "sent" not in missing:
        assert line.endswith(f" {units.size(sent)}")


def lines_of(shown: str) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r") for line in shown.split("\n")]


def test_a_terminal_that_is_resized_gets_its_columns_back(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "REFRESH_S", 0.0)
    out = Terminal()
    console = Console(file=out, highlight=False, force_terminal=True, width=80, height=30)
    live = face(run_dir, console)
    live.on_start(FACTS)
    seen = {}
    for epoch, width in enumerate((80, 60, 70, 200, 60, 80)):
        console.size = ConsoleDimensions(width, 30)
        out.truncate(out.seek(0))
        live.on_epoch(metrics(epoch) | {"comm/sent_bytes": 881_800.0})
        lines = lines_of(out.getvalue())
        assert max(len(line) for line in lines) <= width
        heads, cells = (line.split() for line in lines[1:3])
        assert cells[-2:] == ["881.8", "kB"], "units never vanish"
        seen[epoch] = len(heads)
        assert f"{epoch + 1}/40" in lines[3]
    assert seen == {0: 10, 1: 8, 2: 9, 3: 12, 4: 8, 5: 10}
    live.on_end(SUMMARY)


def test_a_low_terminal_keeps_the_newest_rows_and_the_bar(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "REFRESH_S", 0.0)
    out = Terminal()
    live = face(run_dir, Console(file=out, force_terminal=True, width=80, height=7))
    live.on_start(FACTS)
    for epoch in range(39):
        out.truncate(out.seek(0))
        live.on_epoch(metrics(epoch) | {"val_score": 0.5})
    lines = lines_of(out.getvalue())
    assert [line.split()[0] for line in lines[2:5]] == ["37", "38", "39"]
    assert "39/40" in lines[5]


@pytest.mark.parametrize(
    ("file", "environment"),
    [(io.StringIO, {"FORCE_COLOR": "1"}), (Terminal, {"TERM": "dumb"}), (io.StringIO, {})],
    ids=["a log that wants colours", "a dumb terminal", "a file"],
)
def test_a_log_has_plain_lines(
    file: type[io.StringIO], environment: dict[str, str], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = file()
    run(face(run_dir, Console(file=out, highlight=False, markup=False, soft_wrap=True)))
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) > 10


def test_no_colour_where_none_is_wanted(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    run(face(run_dir, Console(file=out, force_terminal=True, width=80, height=30)))
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3\d|38;|9\d)", out.getvalue())


def test_a_notebook_gets_lines_of_text(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    run(face(run_dir))
    assert capsys.readouterr().out.splitlines()[-1] == f"  evaluate    bnsgcn evaluate {run_dir}"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_largest_of_a_profile_fit_below(width: int) -> None:
    rows = [{"name": name, "calls": 12, "self_s": 0.0123} for name in ("halo_wait", "a long name " * 9)]
    block = last_block(SUMMARY | {"profile": {"epochs": "3-5", "largest": rows}}, Path("run"), width)
    where, head, *lines = block.splitlines()[-4:]
    assert where == "  profile     run/profile"
    assert head.split() == ["largest", "of", "rank", "0,", "epochs", "3-5", "calls", "time"]
    assert [line.split()[-3:] for line in lines] == [["12", "12.3", "ms"]] * 2
    assert len({len(line) for line in (head, *lines)}) == 1
    assert len(head) <= min(width, 100)
    failed = last_block(SUMMARY | {"profile": {"failed": "No space left on device"}}, Path("run"))
    assert failed.endswith("  profile     could not be written (No space left on device)")


def test_names_from_outside_move_no_cursor(tmp_path: Path) -> None:
    nasty = "\x1b[2J\u009b\udcff\u202e\n"
    shown = headline(FACTS | {"name": nasty}) + last_block(SUMMARY, tmp_path / nasty).replace("\n", "")
    assert shown.isprintable()
    assert "\\x1b[2J" in shown


def test_units() -> None:
    assert [units.size(value) for value in (0, 999, 1_500, 2.5e6, 3e9, None)] == [
        "0 B", "999 B", "1.5 kB", "2.5 MB", "3.00 GB", "-"
    ]  # fmt: skip
    assert [units.duration(value) for value in (0.0005, 0.25, 2, math.nan)] == [
        "0.5 ms",
        "250.0 ms",
        "2.00 s",
        "-",
    ]
    assert [units.clock(value) for value in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    assert [units.short(value) for value in (999, 9_999, 58_000, 5_800_000, 3.2e9)] == [
        "999", "9,999", "58.0 k", "5.8 M", "3.2 G"
    ]  # fmt: skip
    assert units.duration(123_456.7) == "123457 s"
    assert units.size(1.2e15) == "1200000.00 GB"
    assert [units.number(value) for value in (math.nan, 0.5, 1e30)] == ["-", "0.5000", "1.00e+30"]
    assert faces.best_checkpoint(Path("nowhere")) is None
