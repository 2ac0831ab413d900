"""What the records rely on: medians and ratios by hand, contestants that answer, die or cannot start."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.contest import Contestant, interleave
from benchmarks.epoch import aims_of
from benchmarks.measure import Spread, add_run, as_lines, ratios, read_runs, round_medians, rounded, table

ANSWERS = """
import json, sys
print(json.dumps({"event": "ready"}), flush=True)
for number, line in enumerate(sys.stdin):
    if line.strip() != "step":
        break
    print(json.dumps({"epoch_s": FACTOR * (number + 1), "peak_rss_bytes": 7 * FACTOR}), flush=True)
"""
DIES = "import sys; print('{}', flush=True); sys.stdin.readline(); sys.exit('the disk is full')"
CANNOT = """import json; print(json.dumps({"skip": "no such library"}), flush=True)"""


def contestant(name: str, *programs: str) -> Contestant:
    return Contestant(name, [[sys.executable, "-c", program] for program in programs], [{} for _ in programs])


def test_an_epoch_is_as_long_as_its_slowest_process_and_the_first_of_a_turn_is_not_kept() -> None:
    both = contestant("both", ANSWERS.replace("FACTOR", "1"), ANSWERS.replace("FACTOR", "3"))
    try:
        both.wait_ready()
        kept = interleave([both], rounds=2, epochs=2, warm_up=1)["both"]
    finally:
        both.close()
    assert [[epoch["epoch_s"] for epoch in epochs] for epochs in kept] == [[9, 12], [18, 21]]
    assert kept[0][0]["peak_rss_bytes"] == 21


def test_a_contestant_that_dies_is_named_with_its_last_words() -> None:
    one = contestant("one", DIES)
    try:
        one.wait_ready()
        with pytest.raises(RuntimeError, match=r"one: process 0 ended\nthe disk is full"):
            one.step()
    finally:
        one.close()


def test_a_contestant_that_cannot_start_says_why() -> None:
    one = contestant("one", CANNOT)
    try:
        with pytest.raises(LookupError, match="no such library"):
            one.wait_ready()
    finally:
        one.close()


def rounds(*seconds: list[float]) -> list[list[dict[str, float]]]:
    return [[{"epoch_s": value} for value in turn] for turn in seconds]


def test_ratios_are_taken_round_by_round() -> None:
    """The machine was twice as slow in the second round; pairs do not see it."""
    ours, theirs = rounds([1, 1, 9], [2, 2, 2], [1, 1, 1]), rounds([4, 4, 4], [8, 8, 99], [4, 4, 4])
    assert round_medians(ours) == [1, 2, 1]
    assert ratios(ours, theirs) == Spread(0.25, 0.25, 0.25, 3)


def test_spread() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([2.0]).show() == "2.00 (2.00-2.00)"
    with pytest.raises(ValueError, match="no measurements"):
        Spread.of([])


def test_table() -> None:
    assert table(["a", "long"], [["1.5", 2]]).splitlines() == [
        "| a   | long |",
        "|-----|------|",
        "| 1.5 | 2    |",
    ]


def test_a_record_has_a_line_a_measurement() -> None:
    one = {"epoch_s": 0.12345678901, "loss": 2.5, "rank": 0}
    slowest = {"epoch_s": 3.14159265359, "loss": 2.5, "rank": 1}
    measured = {**slowest, "peak": 7, "processes": [one, slowest]}
    kept = {"peak": 7, "processes": [{**one, "epoch_s": 0.123456789}, {**slowest, "epoch_s": 3.14159265}]}
    assert rounded({"ours": ((measured,),)}) == {"ours": [[kept]]}
    assert rounded([math.inf, True, 2**60, None, "x", [1e-12]]) == [math.inf, True, 2**60, None, "x", [1e-12]]
    record = {"claim": "short", "raw": [[kept] * 100, {"a": [1]}]}
    text = as_lines(record)
    assert json.loads(text) == record
    assert text.splitlines()[:2] == ["{", '"claim":"short",']
    assert len(text.splitlines()) == 100 + 8
    assert as_lines([[1] * 1000]).count("\n") == 0


def test_runs_of_a_study_are_lines(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    assert read_runs(file) == []
    add_run(file, {"test": 0.12345678901, "curve": [(5, 0.5)]})
    add_run(file, {"test": 1})
    assert read_runs(file) == [{"test": 0.123456789, "curve": [[5, 0.5]]}, {"test": 1}]


def test_an_aim_that_was_missed_says_no() -> None:
    measured = {"ours-2": rounds([0.5]), "limit": rounds([0.4]), "dgl": rounds([1.3])}
    result = {"rounds": measured, "ready": {name: [{}] for name in measured}}
    for epochs in measured.values():
        epochs[0][0]["peak_rss_bytes"] = 10.0
    rows = {row[0]: row[-1] for row in aims_of("reddit-like", result)}
    assert rows["epoch of ours-2 / dgl"] == "yes"
    assert rows["epoch of ours-2 / limit"] == "no"
    assert rows["peak memory of ours-2 / dgl"] == "no"
