"""--profile: a trace a rank, all ranks in one, the largest; and nothing of it where it was not asked for."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.lane import Lane
from bnsgcn.exchange.profiled_lane import ProfiledLane
from bnsgcn.nn.models import build_model
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.spans import Spans
from bnsgcn.train.trainer import Trainer
from partition.errors import UserError
from partition.store import open_part
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=2, hidden=8, dropout=0.2, epochs=6, eval_every=2)


def fitted(world: World, folder: Path, run_dir: Path, config: TrainConfig) -> dict[str, Any]:
    part = open_part(folder, world.rank)
    model = build_model(part.manifest, config)
    run_dir.mkdir(exist_ok=True)
    return Trainer(world, part, model, config, run=RunFolder(run_dir)).fit()


def trace_in(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return events


def counted(events: list[dict[str, Any]], name: str) -> int:
    return sum(event["ph"] == "X" and event["name"] == name for event in events)


def message_ends(events: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "message":
            found.setdefault(event["id"], []).append(event)
    return found


def nested(events: list[dict[str, Any]]) -> bool:
    """Whether of two slices of a thread one is within the other or after it, to a microsecond's rounding."""
    threads: dict[Any, list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            span = event["ts"], event["ts"] + event["dur"]
            threads.setdefault((event["pid"], event["tid"]), []).append(span)
    for spans in threads.values():
        enclosing: list[float] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while enclosing and begin >= enclosing[-1] - 0.01:
                enclosing.pop()
            if enclosing and end > enclosing[-1] + 0.01:
                return False
            enclosing.append(end)
    return True


@pytest.mark.multi
@pytest.mark.parametrize("pipeline", [False, True])
def test_every_rank_has_a_trace_and_messages_have_two_ends(
    pipeline: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Two layers, two ranks, epochs 3 to 5: rows both ways in each layer, gradients in the upper one."""
    config = dataclasses.replace(CONFIG, profile="3-5", pipeline=pipeline)
    run_dir = tmp_path / "run"
    summaries = run_ranks(fitted, 2, tmp_path, parts_folder("single", 2), run_dir, config)
    assert sorted(path.name for path in (run_dir / "profile").iterdir()) == [
        "rank_0.json.gz", "rank_1.json.gz", "ranks.json.gz"
    ]  # fmt: skip
    for rank in range(2):
        events = trace_in(run_dir / "profile" / f"rank_{rank}.json.gz")
        assert [counted(events, name) for name in ("epoch", "reduce")] == [3, 3]
        assert counted(events, "convs.0 SAGEConv") >= 3
        assert counted(events, "post features of layer 1") == counted(events, "take features of layer 1") > 0
        assert any(event["name"] == "halo_wait" for event in events)
        assert message_ends(events)
    both = trace_in(run_dir / "profile" / "ranks.json.gz")
    assert {event["pid"] // 1000 - 1 for event in both if event["name"] == "epoch"} == {0, 1}
    assert nested(both)
    epoch = next(event for event in both if event["name"] == "epoch")
    assert not nested([*both, epoch | {"ts": epoch["ts"] + 1}]), "or else this shows nothing"
    messages = message_ends(both).values()
    for begin, end in messages:
        assert (begin["ph"], end["ph"]) == ("s", "f")
        assert {begin["pid"] // 1000, end["pid"] // 1000} == {1, 2}, "a message goes from one to the other"
    for rank in (1, 2):  # each has a clock of its own: what was posted later is taken later
        ends = sorted((b["ts"], e["ts"]) for b, e in messages if b["pid"] // 1000 == rank)
        assert len(ends) > 3
        assert pipeline or [end for _, end in ends] == sorted(end for _, end in ends)
    largest = summaries[0]["profile"]["largest"]
    assert summaries[0]["profile"]["epochs"] == "3-5"
    assert 3 < len(largest) <= 10
    assert [row["self_s"] for row in largest] == sorted((row["self_s"] for row in largest), reverse=True)


def test_what_is_not_asked_for_costs_nothing(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """Without --profile lanes, spans and modules are plain ones; with it the loss is the same."""
    folder = parts_folder("single", 1)
    part = open_part(folder, 0)
    plain = Trainer(World.single(), part, build_model(part.manifest, CONFIG), CONFIG)
    assert type(plain._stage.spans) is Spans
    assert plain._stage.lane is Lane
    assert plain._profile is None
    profiled = dataclasses.replace(CONFIG, profile="6")
    found = fitted(World.single(), folder, tmp_path / "run", profiled)
    assert found["final_loss"] == plain.fit()["final_loss"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in plain.model.modules())
    by_hand = Trainer(World.single(), part, build_model(part.manifest, profiled), profiled)
    assert by_hand._stage.lane is ProfiledLane
    assert by_hand._profile is None, "there is no folder to write to"


def test_a_run_that_ends_early_writes_what_there_is(parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=50, patience=1, eval_every=1, profile="1-50", lr=1e-9)
    found = fitted(World.single(), parts_folder("single", 1), tmp_path / "run", config)
    assert found["epochs"] < 50
    events = trace_in(tmp_path / "run" / "profile" / "rank_0.json.gz")
    assert counted(events, "epoch") == found["epochs"]
    assert found["profile"]["epochs"] == f"1-{found['epochs']}"


def test_a_disk_that_is_full_ends_no_run(parts_folder: PartsFolder, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "profile").write_text("in the way")
    found = fitted(
        World.single(), parts_folder("single", 1), run_dir, dataclasses.replace(CONFIG, profile="2")
    )
    assert "File exists" in found["profile"]["failed"]
    assert found["epochs"] == 6


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("0", "must be epochs, counted from 1, such as 3 or 3-5"),
        ("three", "must be epochs"),
        ("5-3", "ends before it begins"),
        ("3-7", "is not within --epochs 6; name earlier ones"),
    ],
)
def test_epochs_that_there_are_not_are_one_line(profile: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, profile=profile)
    assert list(dataclasses.replace(CONFIG, profile="3-5").profiled) == [2, 3, 4]
    assert list(dataclasses.replace(CONFIG, profile="6").profiled) == [5]
