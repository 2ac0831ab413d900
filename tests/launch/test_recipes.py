"""Recipes: what their heads say can be typed as it stands, from any folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch.options import COMMANDS
from launch.parse import parse
from launch.recipes import recipe, recipes
from partition.errors import UserError
from partition.sources import parse as parse_source

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
