"""The run folder: what is refused, what is remembered, what a resumed run forgets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.record.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Parts:
    name: str = "ring"
    parts: int = 2
    digest: str = "a" * 64


def test_what_was_asked_for_comes_back(tmp_path: Path) -> None:
    config = TrainConfig(model="gcn", hidden=32)
    run = RunFolder(tmp_path / "deep" / "run")
    run.create(config, Parts(), tmp_path / "parts")
    facts = run.open()
    assert facts.config == config
    assert facts.parts_dir == tmp_path / "parts"
    assert (facts.name, facts.parts, facts.digest) == ("ring", 2, "a" * 64)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(TrainConfig(), Parts(), tmp_path)
    with pytest.raises(ValueError, match="holds a run already; add --resume or name a new folder"):
        run.create(TrainConfig(), Parts(), tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        RunFolder(tmp_path / "letters").create(TrainConfig(), Parts(), tmp_path)
    with pytest.raises(ValueError, match=r"dear\.txt is a file"):
        RunFolder(tmp_path / "letters" / "dear.txt").create(TrainConfig(), Parts(), tmp_path)
    with pytest.raises(ValueError, match=r"dear\.txt/run cannot be written \(Not a directory"):
        RunFolder(tmp_path / "letters" / "dear.txt" / "run").create(TrainConfig(), Parts(), tmp_path)


def test_resume_wants_the_same_graph_and_the_same_options(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(TrainConfig(hidden=32, epochs=10), Parts(), tmp_path)
    run.create(TrainConfig(hidden=32, epochs=20, threads=3, resume=True), Parts(), tmp_path)
    assert run.open().config.epochs == 20
    with pytest.raises(ValueError, match=r"--hidden is 64, the run in .* was started with 32"):
        run.check(TrainConfig(hidden=64, resume=True), Parts())
    other = Parts(name="grid", parts=3, digest="b" * 64)
    with pytest.raises(
        ValueError, match=r"is a run on 'ring' in 2 parts .* these parts are 'grid' in 3 parts"
    ):
        run.check(TrainConfig(hidden=32, resume=True), other)


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(TrainConfig(resume=True), Parts(), tmp_path)
    assert run.open().parts == 2


@pytest.mark.parametrize("text", ["", "{}", '{"config": 3}', "\x00"])
def test_a_broken_config_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        RunFolder(tmp_path).open()
    with pytest.raises(ValueError, match=r"nowhere is no run folder: it has no config\.json"):
        RunFolder(tmp_path / "nowhere").open()


def test_lines_are_json_and_a_resumed_run_forgets_the_later_ones(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in range(4):
        run.log_epoch({"epoch": epoch, "loss": float("nan") if epoch == 3 else 0.5})
        run.log_rank(1, {"epoch": epoch})
    assert [line["loss"] for line in run.metrics()] == [0.5, 0.5, 0.5, None]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "lo')  # killed while writing
    run.rewind(2, rank=0)
    assert [line["epoch"] for line in run.metrics()] == [0, 1]
    assert len((tmp_path / "rank_1.jsonl").read_text().splitlines()) == 4
    run.rewind(2, rank=1)
    assert len((tmp_path / "rank_1.jsonl").read_text().splitlines()) == 2
    assert len(run.metrics()) == 2


def test_the_summary_is_strict_json(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_summary({"final_loss": float("inf"), "config": {"lr": 0.1}, "each": (1, 2)})
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text) == {"final_loss": None, "config": {"lr": 0.1}, "each": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_an_error_is_kept_only_in_a_run_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.log_error(1, "boom") is None
    run.create(TrainConfig(), Parts(), tmp_path)
    path = run.log_error(1, "boom")
    assert path is not None
    assert path.read_text() == "boom"
    run.create(TrainConfig(resume=True), Parts(), tmp_path)
