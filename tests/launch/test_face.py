"""What a run looks like, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch import face as faces
from launch.face import LiveFace, PlainFace, face

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
    "metric": "micro_f1",
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


def run(shown: Any) -> None:
    shown.on_start(FACTS)
    for epoch in range(40):
        shown.on_epoch(metrics(epoch))
    shown.on_end(SUMMARY)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.json").write_text(json.dumps({"checkpoint": "epoch_000030"}))
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
    assert block[0] == "test micro f1 0.7125   (validation 0.7500 after epoch 30 of 40)"
    assert block[1] == "  epoch       1.50 s: compute 1.25 s, halo wait 125.0 ms, reduce 62.5 ms"
    assert block[2] == "  used        12.3 MB sent an epoch, 512.0 MB a worker at most"
    assert block[3] == f"  checkpoint  {run_dir}/checkpoints/epoch_000030"
    assert block[4] == f"  evaluate    bnsgcn evaluate {run_dir}"


def test_a_live_table_on_a_terminal(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "REFRESH_S", 0.0)
    out = io.StringIO()
    live = face(run_dir, Console(file=out, highlight=False, force_terminal=True, width=100, height=30))
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


def test_units() -> None:
    assert [faces.size(value) for value in (0, 999, 1_500, 2.5e6, 3e9, None)] == [
        "0 B", "999 B", "1.5 kB", "2.5 MB", "3.00 GB", "-"
    ]  # fmt: skip
    assert [faces.duration(value) for value in (0.0005, 0.25, 2, math.nan)] == [
        "0.5 ms",
        "250.0 ms",
        "2.00 s",
        "-",
    ]
    assert [faces.clock(value) for value in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    assert [faces.short(value) for value in (999, 9_999, 58_000, 5_800_000, 3.2e9)] == [
        "999", "9,999", "58.0 k", "5.8 M", "3.2 G"
    ]  # fmt: skip
    assert faces.number(math.nan) == "-"
    assert faces.best_checkpoint(Path("nowhere")) is None
