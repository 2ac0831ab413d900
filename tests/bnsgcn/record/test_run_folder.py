"""The run folder: what is refused, what is remembered, what a resumed run forgets."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.record import run_lock
from bnsgcn.record.run_folder import RunFolder
from partition.errors import UserError
from tests.killing import killed_at_every_step


@dataclasses.dataclass(frozen=True)
class Parts:
    name: str = "ring"
    parts: int = 2
    digest: str = "a" * 64
    graph_digest: str = "c" * 64


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
    other = Parts(name="grid", parts=3, digest="b" * 64, graph_digest="d" * 64)
    with pytest.raises(
        ValueError, match=r"is a run on 'ring' in 2 parts .* these parts are 'grid' in 3 parts"
    ):
        run.check(TrainConfig(hidden=32, resume=True), other)


def test_a_run_of_an_earlier_version_is_resumed_or_refused_by_what_had_an_effect(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for rate in (1.0, 0.5):
        run.create(TrainConfig(sampling_rate=rate), Parts(), tmp_path)
        held = json.loads((run.path / "config.json").read_text())
        held["config"] |= {"smooth_decay": 0.95, "sampler": "uniform"}
        del held["config"]["smooth_window"]
        (run.path / "config.json").write_text(json.dumps(held))
        now = TrainConfig(sampling_rate=rate, resume=True)
        if rate == 1:
            run.check(now, Parts())
            run.write_summary({"config": held["config"]})
            assert run.ended(now) is not None
            shutil.rmtree(run.path)
    with pytest.raises(ValueError, match=r"started with uniform; resume with --sampler uniform or name"):
        run.check(now, Parts())


def test_resume_takes_another_cut_of_the_same_graph(tmp_path: Path) -> None:
    run, three = RunFolder(tmp_path / "run"), Parts(parts=3, digest="b" * 64)
    run.create(TrainConfig(), Parts(), tmp_path / "two")
    with pytest.raises(ValueError, match="holds a run already"):
        run.check(TrainConfig(), three)
    run.create(TrainConfig(resume=True), three, tmp_path / "three")
    assert (run.open().parts, run.open().parts_dir) == (3, tmp_path / "three")
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"graph"', '"unknown"'))  # as earlier versions wrote it
    run.check(TrainConfig(resume=True), three)
    with pytest.raises(ValueError, match="is a run on 'ring' in 3 parts"):
        run.check(TrainConfig(resume=True), Parts())


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(TrainConfig(resume=True), Parts(), tmp_path)
    assert run.open().parts == 2


CONFIG_LINES = {
    "no text": "\x00",
    "empty": "",
    "no object": "[]",
    "null": "null",
    "nothing in it": "{}",
    "deep": "[" * 20_000,
    "deep inside": '{"config": ' + '{"a": ' * 20_000 + "1" + "}" * 20_000 + "}",
    "options are a number": '{"config": 3}',
    "options are a list": '{"config": ["lr"]}',
    "options are null": '{"config": null}',
}


@pytest.mark.parametrize("kind", CONFIG_LINES)
def test_a_broken_config_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG_LINES[kind])
    with pytest.raises(
        UserError, match=r"config\.json cannot be read \(.*\); train again into a new"
    ) as refused:
        RunFolder(tmp_path).open()
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"nowhere is no run folder: it has no config\.json"):
        RunFolder(tmp_path / "nowhere").open()


WRONG = [None, True, 3, -1, 1.5, "", "x", [], ["x"], {}, {"a": 1}, 10**400, [[]], float("inf")]


def test_config_with_wrong_types_is_one_line(tmp_path: Path) -> None:
    """Every field replaced by everything: read as it is, or refused in one line."""
    run = RunFolder(tmp_path / "run")
    run.create(TrainConfig(), Parts(), tmp_path)
    path = tmp_path / "run" / "config.json"
    right = json.loads(path.read_text())
    messages = []
    places = [(right, name) for name in right]
    places += [(right["config"], name) for name in right["config"]]
    for (home, name), wrong in itertools.product(places, WRONG):
        before, home[name] = home[name], wrong
        path.write_text(json.dumps(right))
        home[name] = before
        try:
            run.open()
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 0.5 * len(places) * len(WRONG)
    assert not any("\n" in message for message in messages)
    for text in damaged(json.dumps(right).encode()):
        path.write_bytes(text)
        with contextlib.suppress(UserError):
            run.open()


def damaged(text: bytes) -> Iterator[bytes]:
    for place in range(0, len(text), 3):
        yield text[:place]
        yield text[:place] + bytes([text[place] ^ 1 << place % 8]) + text[place + 1 :]


def test_what_a_run_left_that_was_killed_at_once_is_no_obstacle(tmp_path: Path) -> None:
    folders = (tmp_path / str(number) for number in itertools.count())

    def create(path: Path) -> None:
        RunFolder(path).create(TrainConfig(), Parts(), tmp_path)

    outcomes = set()
    for path, _ in killed_at_every_step(lambda: next(folders), create):
        begun = (path / "config.json").exists()
        outcomes.add(begun)
        RunFolder(path).create(TrainConfig(resume=begun), Parts(), tmp_path)
        assert RunFolder(path).open().parts == 2
    assert outcomes == {False, True}


def test_a_full_disk_leaves_no_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    old = RunFolder(tmp_path / "old")
    old.create(TrainConfig(epochs=10), Parts(), tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    for run, options in (
        (old, TrainConfig(epochs=20, resume=True)),
        (RunFolder(tmp_path / "new"), TrainConfig()),
    ):
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); name another"):
            run.create(options, Parts(), tmp_path)
    assert not (tmp_path / "new").exists()
    assert old.open().config.epochs == 10
    assert sorted(os.listdir(tmp_path / "old")) == [".lock", "config.json"]


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process would be refused as this second folder object is; reading is free."""
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.0)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.create(TrainConfig(), Parts(), tmp_path)
    for refused in (second.create, lambda config, parts, _: second.check(config, parts)):
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} on"):
            refused(TrainConfig(resume=True), Parts(), tmp_path)
    assert second.open().parts == 2
    first.release()
    second.create(TrainConfig(resume=True), Parts(), tmp_path)


def test_each_rank_forgets_its_own_lines(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in range(4):
        run.log_epoch({"epoch": epoch, "loss": 0.5})
        run.log_rank(1, {"epoch": epoch})
    run.sync(0)
    run.sync(1)
    run.rewind(2, rank=0, ranks=2)
    assert [line["epoch"] for line in run.metrics()] == [0, 1]
    assert len((tmp_path / "rank_1.jsonl").read_text().splitlines()) == 4
    run.rewind(3, rank=1, ranks=2)
    assert len((tmp_path / "rank_1.jsonl").read_text().splitlines()) == 3
    assert len(run.metrics()) == 2


def test_rank_0_forgets_the_lines_of_ranks_that_are_gone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for rank in range(12):
        for epoch in range(4):
            run.log_rank(rank, {"epoch": epoch})
    run.rewind(2, rank=1, ranks=2)
    assert [len(run.rank_metrics(rank)) for rank in (0, 1, 2, 11)] == [4, 2, 4, 4]
    run.rewind(2, rank=0, ranks=2)
    assert [len(run.rank_metrics(rank)) for rank in range(12)] == [2] * 12


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 20_000, "\x00"], ids=range(5))
def test_a_summary_that_is_none_counts_as_none(text: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.summary() is None
    run.write_summary({"epochs": 3, "final_loss": float("nan")})
    assert run.summary() == {"epochs": 3, "final_loss": None}
    (tmp_path / "summary.json").write_text(text)
    assert run.summary() is None


def test_an_error_is_kept_only_in_a_run_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.log_error(1, "boom") is None
    run.create(TrainConfig(), Parts(), tmp_path)
    path = run.log_error(1, "boom")
    assert path is not None
    assert path.read_text() == "boom"
    run.create(TrainConfig(resume=True), Parts(), tmp_path)
