"""`bnsgcn report`: what it writes of one run and of several, and what it says of what it cannot read."""

from __future__ import annotations

import csv
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.record.seeds import folder_of_seed
from launch.report.asked_runs import asked_runs
from launch.report.grouped import grouped
from partition.store import read_manifest
from tests.launch.report.made_runs import MadeParts, made_run
from tests.launch.scene import Command

MIND = ["--format", "json"]


def as_json(command: Command, *runs: Path) -> dict[str, Any]:
    ended = command("report", *runs, *MIND)
    assert (ended.status, ended.err) == (0, ""), ended
    found: dict[str, Any] = json.loads(ended.out)
    return found


class Tags(HTMLParser):
    """Ids, addresses and open tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.addresses += [str(v) for name, v in attrs if name in ("src", "href", "xlink:href", "srcset")]


def test_a_page_of_one_run_needs_nothing_else(command: Command, two_parts: Path, tmp_path: Path) -> None:
    manifest = read_manifest(two_parts)
    run = made_run(tmp_path / "run", of=manifest, parts_dir=two_parts, telemetry_every=5, sampling_rate=0.5)
    ended = command("report", run, "--out", tmp_path / "page.html")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"{tmp_path / 'page.html'}: ")
    text = (tmp_path / "page.html").read_text()
    page = Tags(text)
    names = ["score", "loss", "time", "ranks", "bytes", "memory", "errors", "volume", "balance"]
    assert [name for name in page.ids if name in names] == names
    assert page.tags.count("svg") == 2 * len(names), "one for wide screens and one for narrow ones"
    assert len(page.ids) == len(set(page.ids))
    assert all(re.match("#|data:,", address) for address in page.addresses)
    assert not re.search(r"@import|url\((?!#)|<script", text)
    assert "layer 1" in text
    assert "rows, forward" in text, "text stays text"
    assert not re.search(r"(?:fill|stroke): ?#", text), "colours are variables, for dark screens"
    again = command("report", run, "--out", tmp_path / "page.html")
    assert again.status == 0
    assert (tmp_path / "page.html").read_text() == text


def test_what_one_run_is_told_as_numbers(command: Command, two_parts: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", of=read_manifest(two_parts), parts_dir=two_parts, lr=1e-5, norm="batch")
    told = as_json(command, run)
    assert told["runs"][0]["option_lr"] == 1e-5
    assert told["bytes_per_epoch"] == [
        {"layer": "layer 0", "features": 2e6, "gradients": 0.0},
        {"layer": "layer 1", "features": 1e6, "gradients": 1e6},
    ]
    assert told["parts"]["total_volume"] == sum(map(sum, told["parts"]["volume"]))
    assert told["versions"]["python"]
    assert told["command"] == (
        f"bnsgcn train {two_parts} --run-dir {run}-again --norm batch --lr 1e-05 --epochs 40"
    )
    assert [finding["says"][:9] for finding in told["findings"]] == ["Halo wait"]
    assert told["gaps"] == []


def test_several_runs_are_grouped_by_their_options(command: Command, tmp_path: Path) -> None:
    for seed in range(3):
        made_run(folder_of_seed(tmp_path / "exact", seed), seed=seed)
        made_run(folder_of_seed(tmp_path / "sampled", seed), seed=seed, sampling_rate=0.1)
    told = as_json(command, tmp_path / "exact", tmp_path / "sampled", tmp_path / "exact" / "seed_1")
    assert len(told["runs"]) == 6, "each once"
    assert [group["label"] for group in told["groups"]] == ["sampling-rate 1", "sampling-rate 0.1"]
    scores = [run["test_score"] for run in told["runs"][:3]]
    mean = sum(scores) / 3
    std = (sum((score - mean) ** 2 for score in scores) / 2) ** 0.5
    assert told["groups"][0]["test_score"] == {
        "mean": pytest.approx(mean),
        "std": pytest.approx(std),
        "count": 3,
    }
    text = command("report", tmp_path / "exact", tmp_path / "sampled", "--format", "md").out
    assert f"| sampling-rate 1 | 3 | {mean:.4f} ± {std:.4f} |" in text
    assert "## Options that differ\n\n|  | sampling-rate |\n" in text, "those alone"
    rows = list(csv.DictReader(command("report", tmp_path / "exact", "--format", "csv").out.splitlines()))
    assert [row["option_seed"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["test_score"]) == scores[0]


def test_a_sweep_says_what_failed(command: Command, tmp_path: Path) -> None:
    for rate in (0.1, 0.01):
        made_run(tmp_path / f"lr={rate}", lr=rate)
    failed = {"runs": [{"name": "lr=9", "error": "the loss is nan"}]}
    (tmp_path / "sweep.json").write_text(json.dumps(failed))
    told = as_json(command, tmp_path)
    assert told["gaps"][0] == "lr=9 of the sweep failed: the loss is nan"
    assert {group["label"] for group in told["groups"]} == {"lr 0.1", "lr 0.01"}


def test_labels_stay_short(tmp_path: Path) -> None:
    options: dict[str, Any] = {"smooth_features": True, "pipeline": True, "wire_dtype": "int8"}
    made_run(tmp_path / "plain"), made_run(tmp_path / "all", **options)
    runs, _ = asked_runs([tmp_path])
    assert [group.label for group in grouped(runs)] == ["all", "plain"], (
        "what differs is long, folders are not"
    )


def test_labels_are_what_is_on(tmp_path: Path) -> None:
    made_run(tmp_path / "0", done=1), made_run(tmp_path / "1", done=1, pipeline=True)
    made_run(tmp_path / "2", done=1, sampling_rate=0.5, pipeline=True, track="csv", seed=3)
    labels = [group.label for group in grouped(asked_runs([tmp_path])[0])]
    assert labels == ["sampling-rate 1", "pipeline, sampling-rate 1", "pipeline, sampling-rate 0.5"]
    assert [group.label for group in grouped(asked_runs([tmp_path / "0", tmp_path / "1"])[0])] == [
        "plain",
        "pipeline",
    ]


def test_runs_of_different_graphs_are_told_apart(command: Command, tmp_path: Path) -> None:
    made_run(tmp_path / "a"), made_run(tmp_path / "b", of=MadeParts("star", 3, "b" * 64))
    told = as_json(command, tmp_path / "a", tmp_path / "b")
    assert told["gaps"][0] == "the runs are of 2 graphs (ring, star): do not compare their scores"
    assert [group["differing"] for group in told["groups"]] == [
        {"graph": "ring", "parts": 2},
        {"graph": "star", "parts": 3},
    ]


def test_a_run_without_an_epoch_has_a_page(command: Command, tmp_path: Path) -> None:
    new = made_run(tmp_path / "new", done=0)
    assert command("report", new, "--out", tmp_path / "new.html").status == 0
    assert "no epoch has ended yet, so there is nothing to draw" in (tmp_path / "new.html").read_text()
    old = made_run(tmp_path / "old")
    assert command("report", new, old, "--out", tmp_path / "both.html").status == 0
    assert command("report", new, new, "--format", "md").status == 0


def test_lines_that_say_little_make_a_page_that_shows_little(command: Command, tmp_path: Path) -> None:
    def little(epoch: int, line: dict[str, Any]) -> None:
        for name in set(line) - {"epoch", "loss"}:
            line[name] = [None, "much", -1, [1]][(epoch + len(name)) % 4]

    run = made_run(tmp_path / "run", done=8, ended=False, change=little)
    for path in run.glob("rank_*.jsonl"):
        path.write_text('{"epoch": 0}\n{"epoch": 1, "time/epoch_s": null, "memory/peak_rss_bytes": "?"}\n')
    (run / "summary.json").write_text('{"metric": null, "epochs": 8, "val_score": "high", "parameters": []}')
    for runs in ([run], [run, made_run(tmp_path / "other", done=1, lr=0.1)]):
        assert command("report", *runs, "--out", tmp_path / "page.html").status == 0
        assert "<figcaption>" in (tmp_path / "page.html").read_text()


def test_names_from_outside_are_only_words(command: Command, tmp_path: Path) -> None:
    name = '<script>alert("$x_1$")</script>\x1b[2J'
    run, other = made_run(tmp_path / "run", of=MadeParts(name)), made_run(tmp_path / "b", of=MadeParts("b|c"))
    for runs in ([run], [run, other]):
        assert command("report", *runs, "--out", tmp_path / "page.html").status == 0
        text = (tmp_path / "page.html").read_text()
        assert "<script" not in text
        assert "\x1b" not in text
    assert "b\\|c" in command("report", run, other, "--format", "md").out


def test_figures_for_a_paper(command: Command, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    ended = command("report", run, "--figures", tmp_path / "figures")
    assert (ended.status, ended.err) == (0, "")
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"score", "loss", "time", "ranks", "bytes", "memory"}
    for name in names:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "figures" / f"{name}.svg").read_text()
    assert not (tmp_path / "report.html").exists()


def test_mistakes_are_one_line(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = made_run(tmp_path / "run", done=2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    wrong = [
        ([], "RUN is missing"),
        (["nowhere"], "nowhere is not there; name a run folder"),
        (["file"], "file is a file; name a run folder"),
        (["empty"], "empty holds no run: no config.json there nor in a folder within"),
        ([run, "--out", "page.pdf"], "--out page.pdf: '.pdf' is none of .html, .md, .csv, .json"),
        ([run, "--out", "no/page.html"], "there is no folder no"),
        ([run, "--out", tmp_path], "is a folder; name a file"),
        ([run, "--out", run / "config.json"], "is a file of the run"),
        ([run, "--figures", "file"], "--figures file cannot be written"),
    ]
    for words, message in wrong:
        assert message in command("report", *words).mistake()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'bnsgcn[report]'" in command("report", run).mistake()
    assert command("report", run, "--format", "csv").status == 0, "a table needs no pictures"
    (run / "config.json").write_text("{")
    assert "config.json cannot be read" in command("report", run).mistake()


def test_a_run_made_in_python_is_repeated_there(command: Command, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", hidden=32)
    facts = json.loads((run / "config.json").read_text())
    facts["own"] = {"model": {"module": "nets", "name": "skip"}}
    (run / "config.json").write_text(json.dumps(facts))
    assert as_json(command, run)["command"] == (
        f"bnsgcn.train(\n    '/nowhere/parts',\n    run_dir='{run}-again',\n    model=nets:skip,\n"
        "    hidden=32,\n    epochs=40,\n)"
    )
