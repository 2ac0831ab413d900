"""Recipes: what their heads say can be typed as it stands, from any folder, and what they set trains."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from launch.options import COMMANDS, Train
from launch.parse import graph_of, parse
from launch.parts import parts_of
from launch.recipes import check_graph_of, recipe, recipes
from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import Graph
from partition.sources import parse as parse_source
from partition.store import open_part, read_manifest

ROOT = Path(__file__).resolve().parents[2]


def asked(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "launch.recipes", *names]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_where_a_recipe_lies(tmp_path: Path) -> None:
    assert set(asked(tmp_path).stdout.split()) == set(recipes()) >= {"reddit.toml", "train.sbatch"}
    ended = asked(tmp_path, "reddit", "two_machines.sh")
    assert ended.stdout.split() == [str(recipe("reddit.toml")), str(recipe("two_machines"))]
    ended = asked(tmp_path, "redit")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "there is no recipe 'redit'; did you mean 'reddit.toml'?" in ended.stderr
    with pytest.raises(UserError):
        recipe("__init__.py")


def typed(path: Path) -> list[list[str]]:
    """The commands in the head of a recipe, with the answers of `python -m launch.recipes` filled in."""
    text = re.sub(r"\\\n#", "", path.read_text())
    lines = re.findall(r"^# {3,}(bnsgcn .*|sbatch .*|sh .*)$", text, re.MULTILINE)
    known = re.sub(
        r"\$\(python -m launch\.recipes (\S+)\)", lambda found: str(recipe(found[1])), "\n".join(lines)
    )
    return [shlex.split(line, comments=True) for line in known.splitlines()]


@pytest.mark.parametrize("name", recipes())
def test_the_heads_can_be_typed(name: str) -> None:
    commands = typed(recipe(name))
    assert len(commands) >= 1
    for words in commands:
        if words[0] != "bnsgcn":
            words = ["bnsgcn", "train", "parts", "--run-dir", "run", *words[-2:]]
        command = parse(words[1:])
        assert isinstance(command, COMMANDS[words[1]])
        if words[1] == "partition":
            parse_source(words[2])


@pytest.mark.parametrize(("name", "shell"), [("two_machines.sh", "sh"), ("train.sbatch", "bash")])
def test_a_script_without_its_arguments_says_which(name: str, shell: str) -> None:
    ended = subprocess.run([shell, recipe(name), "parts"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ")
    assert "PARTS RUN" in ended.stderr


SETTINGS = [Path(name).stem for name in recipes() if name.endswith(".toml")]
NODES = 130


def graph_like(shape: dict[str, object], folder: Path) -> Path:
    """Parts of a small graph of a recipe's shape."""
    rng = np.random.default_rng(0)
    classes, features = int(str(shape["classes"])), int(str(shape.get("features", 4)))
    single = shape["task"] == "single"
    labels = rng.integers(0, classes, NODES) if single else rng.integers(0, 2, (NODES, classes))
    graph = Graph.from_arrays(
        rng.integers(0, NODES, (2, 4 * NODES)),
        features=(rng.random((NODES, features)) < 0.05).astype(np.float32),
        labels=labels,
        num_classes=classes,
        name="like",
    )
    partition_graph(graph, parts=1, out=folder, method="random")
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_a_recipe_trains_a_graph_of_its_shape(name: str, tmp_path: Path) -> None:
    folder = graph_like(graph_of(name), tmp_path / "parts")
    short = ["--epochs", "3", "--hidden", "16", "--dtype", "float64", "--device", "cpu"]
    command = parse(["train", str(folder), "--run-dir", str(tmp_path / "run"), "--recipe", name, *short])
    assert isinstance(command, Train)
    part = open_part(parts_of(command, print), 0)
    trainer = Trainer(World.single(), part, build_model(part.manifest, command.options), command.options)
    losses = [trainer.train_epoch()["loss"] for _ in range(3)]
    assert np.isfinite(losses).all()
    assert np.isfinite(trainer.evaluate().test)


def test_the_command_line_wins_over_a_recipe() -> None:
    typed_words = ["train", "parts", "--run-dir", "run", "--recipe", "minesweeper"]
    for words, hidden in (([], 64), (["--hidden", "32"], 32)):
        command = parse([*typed_words, *words])
        assert isinstance(command, Train)
        assert (command.options.hidden, command.options.norm) == (hidden, "batch")


def test_a_recipe_that_is_not_there_or_for_another_graph_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--recipe coda: there is none; did you mean 'cora'"):
        parse(["train", "parts", "--run-dir", "run", "--recipe", "coda"])
    folder = graph_like({"classes": 7, "features": 12, "task": "single"}, tmp_path / "parts")
    command = parse(["train", str(folder), "--run-dir", "run", "--recipe", "cora"])
    assert isinstance(command, Train)
    with pytest.raises(UserError, match="for a graph with 1433 features, like has 12; take another"):
        parts_of(command, print)
    with pytest.raises(UserError, match="with multi-label nodes, like has single-label ones"):
        check_graph_of("eukloc", {"task": "multi"}, read_manifest(folder))
