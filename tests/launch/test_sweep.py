"""`bnsgcn sweep`: every combination once, what fails beside the others, what is done stays done."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.run import train_worker
from bnsgcn.workers import series
from launch import parts as parts_of_a_source
from launch.grid import read_grid
from partition.errors import Stopped, UserError
from tests.launch.scene import Command, write_graph, write_parts

SMALL = "layers = 2\nhidden = 8\nepochs = 2\neval-every = 1\n"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Runs are trained in this process, which is faster; the list has the folders of those that were."""
    trained: list[Path] = []

    def train_here(parts_dir: Path, run_dir: Path, config: TrainConfig, **_: Any) -> dict[str, Any]:
        trained.append(run_dir)
        return train_worker(parts_dir, run_dir, config)

    monkeypatch.setattr(series, "train_here", train_here)
    return trained


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def runs_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "sweep.json").read_text())["runs"]
    return found


def test_every_combination_is_a_run_and_what_is_done_stays(
    command: Command, in_process: list[Path], tmp_path: Path
) -> None:
    folder, parts = tmp_path / "runs", write_parts(tmp_path / "parts", 1)
    head = f'source = "{parts}"\nrun-dir = "{folder}"\n{SMALL}'
    file = write(tmp_path / "grid.toml", head + 'lr = [0.1, 1e-5]\nnorm = ["layer", "none"]\n')
    ended = command("sweep", file)
    assert (ended.status, ended.err) == (0, ""), ended
    names = ["lr=0.1,norm=layer", "lr=0.1,norm=none", "lr=1e-05,norm=layer", "lr=1e-05,norm=none"]
    assert [path.name for path in in_process] == names
    rows = runs_of(folder)
    assert sorted(row["name"] for row in rows) == names
    scores = [row["val_score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        summary = json.loads((Path(row["run_dir"]) / "summary.json").read_text())
        assert {row["lr"], row["norm"]} <= set(summary["config"].values())
        assert (row["test_score"], row["metric"]) == (summary["test_score"], "accuracy")
    with (folder / "sweep.csv").open() as text:
        table = list(csv.DictReader(text))
    assert [(row["name"], float(row["val_score"])) for row in table] == [
        (row["name"], row["val_score"]) for row in rows
    ]
    shown = ended.out.splitlines()
    assert shown[-6].split() == ["lr", "norm", "validation", "test", "best", "epoch", "epoch"]
    assert [line.split()[:2] for line in shown[-5:-1]] == [[str(row["lr"]), row["norm"]] for row in rows]

    in_process.clear()
    (folder / names[1] / "summary.json").unlink()
    write(file, head + 'lr = [0.1, 1e-5, 0.01]\nnorm = ["layer", "none"]\n')
    assert command("sweep", file).status == 0
    assert [path.name for path in in_process] == [names[1], "lr=0.01,norm=layer", "lr=0.01,norm=none"]
    assert len(runs_of(folder)) == 6


def test_a_run_that_fails_does_not_stop_the_others(
    command: Command, in_process: list[Path], tmp_path: Path
) -> None:
    folder, parts = tmp_path / "runs", write_parts(tmp_path / "parts", 1)
    head = f'source = "{parts}"\nrun-dir = "{folder}"\n{SMALL}'
    file = write(tmp_path / "grid.toml", head + 'model = ["gat", "gcn"]\nprecompute = [true, false]\n')
    ended = command("sweep", file)
    line = ended.mistake()
    assert line.startswith("1 of 4 runs failed, first model=gat,precompute=true: --precompute needs a fixed")
    assert len(in_process) == 3
    rows = runs_of(folder)
    assert ["error" in row for row in rows] == [False, False, False, True]
    assert "failed" in ended.out.splitlines()[-2]
    (folder / "model=gcn,precompute=true").rename(tmp_path / "elsewhere")
    (folder / "model=gcn,precompute=true").write_text("in the way")
    assert command("sweep", file).mistake().startswith("2 of 4 runs failed")


def test_a_signal_ends_the_sweep_and_it_goes_on(
    command: Command, in_process: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, parts = tmp_path / "runs", write_parts(tmp_path / "parts", 1)
    file = write(
        tmp_path / "grid.toml", f'source="{parts}"\nrun-dir="{folder}"\n{SMALL}\nlr = [0.1, 0.2, 0.3]'
    )
    whole = series.train_here

    def stopped(parts_dir: Path, run_dir: Path, config: TrainConfig, **more: Any) -> dict[str, Any]:
        if run_dir.name == "lr=0.2":
            raise Stopped(2)
        return whole(parts_dir, run_dir, config, **more)

    with monkeypatch.context() as patched:
        patched.setattr(series, "train_here", stopped)
        assert command("sweep", file).status == 130
    assert [row["name"] for row in runs_of(folder)] == ["lr=0.1"]
    assert command("sweep", file).status == 0
    assert [path.name for path in in_process] == ["lr=0.1", "lr=0.2", "lr=0.3"]


def test_a_source_is_cut_once(
    command: Command, in_process: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, cuts = write_graph(tmp_path / "small.npz"), []
    whole = parts_of_a_source.parts_of
    monkeypatch.setattr("launch.sweep.parts_of", lambda *given: cuts.append(given) or whole(*given))
    head = f'source="npz:{graph}"\nparts=1\nrun-dir="{tmp_path / "runs"}"\ncache-dir="{tmp_path / "cache"}"\n'
    file = write(tmp_path / "grid.toml", head + SMALL + "seed = [0, 1, 2]\n")
    assert command("sweep", file).status == 0
    assert (len(cuts), len(in_process)) == (1, 3)
    file = write(tmp_path / "grid.toml", head.replace("small", "absent") + SMALL + "seed = [3, 4]\n")
    assert "2 of 2 runs failed, first seed=3: " in command("sweep", file).mistake()
    assert len(cuts) == 2


@pytest.mark.multi
def test_workers_are_started_for_each_run(command: Command, two_parts: Path, tmp_path: Path) -> None:
    head = f'source = "{two_parts}"\nrun-dir = "{tmp_path / "runs"}"\n{SMALL}'
    ended = command("sweep", write(tmp_path / "grid.toml", head + "lr = [0.1]\n"))
    assert ended.status == 0, ended
    assert "[1/1] lr=0.1\n" in ended.out
    assert "starting 2 workers\n" in ended.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr = [1]", "unknown option 'lrr'; did you mean 'lr'?"),
        ("lr = []", "the list of 'lr' is empty; give it a value, or leave it out"),
        ("lr = [0.1, 0.1]", "'lr' has 0.1 2 times in its list; once is enough"),
        ("lr = [[0.1]]", "'lr' has [0.1] in its list, must be one value each"),
        ("lr = ['x']\nsource = 'x'\nrun-dir = 'r'", "--lr is 'x', must be a number"),
        ("lr = [0.1]\nresume = true", "'resume' cannot be in a sweep like that; a sweep goes on by itself"),
        ("seeds = '0-3'", "'seeds' cannot be in a sweep like that; write seed = [0, 1, 2]"),
        ("[grid]\nlr = [0.1]", "unknown option 'grid'"),
        ("model", "is not TOML: "),
        ("lr = [0.1]", "no source and no run-dir; a sweep needs them beside the options of train"),
        ("run-dir = ['a', 'b']", "'run-dir' cannot be in a sweep like that; name one folder for all runs"),
        ("source = ['a/b', 'a-b']\nrun-dir = 'r'", "2 runs would be called source=a-b; sweep over them one"),
        (
            "source = 'x'\nrun-dir = 'r'\nseed = [" + ",".join(map(str, range(10_001))) + "]",
            "10,001 combinations, more than 10,000",
        ),
    ],
)
def test_a_file_that_is_no_grid_is_one_line(
    text: str, message: str, command: Command, tmp_path: Path
) -> None:
    file = write(tmp_path / "grid.toml", text)
    said = command("sweep", file).mistake()
    assert message in said
    assert said.startswith(str(file))


def test_a_file_that_is_not_there_is_one_line(command: Command, tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    assert (
        command("sweep", absent).mistake()
        == f"{absent} cannot be read: No such file or directory; name a TOML file"
    )


def test_values_are_read_as_those_of_the_command(tmp_path: Path) -> None:
    file = write(
        tmp_path / "grid.toml", 'source = "x"\nrun-dir = "r"\nprecompute = [true, false]\nseed = [3]\n'
    )
    folder, members = read_grid(file)
    assert folder == Path("r")
    assert [member.name for member in members] == ["precompute=true,seed=3", "precompute=false,seed=3"]
    commands = [member.command for member in members if member.command is not None]
    assert [(each.options.precompute, each.options.seed) for each in commands] == [(True, 3), (False, 3)]
    assert [each.run_dir for each in commands] == [Path("r") / member.name for member in members]
    alone = read_grid(write(tmp_path / "one.toml", 'source = "x"\nrun-dir = "r"\n'))
    assert [member.name for member in alone[1]] == ["run"]
    with pytest.raises(UserError, match=r"'lr' is a table, must be one value"):
        read_grid(write(tmp_path / "table.toml", "lr = {a = 1}\n"))
