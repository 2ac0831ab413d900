"""Every code block of README.md and the pages: run in one folder, or, where it says why not, parsed.

The pages share what they make: a command or a block that has run is not run again.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import bnsgcn
from bnsgcn.config import TrainConfig
from launch.cli import main
from launch.parse import options_of, parse, read_file
from partition.native import cache_folder
from partition.sources import parse as parse_source
from tests.docs.blocks import ROOT, CodeBlock, blocks, commands, pages

PROGRAMS = {"pip", "docker", "sh", "sbatch", "torchrun", "start="}
"""What a block that is not run may call besides `bnsgcn`."""


class Workshop:
    """The folder in which blocks run, and what has run there."""

    def __init__(self) -> None:
        self._done: set[tuple[str, ...]] = set()
        self._names: dict[str, dict[str, Any]] = {}

    def shell(self, block: CodeBlock) -> None:
        for words in commands(block.code):
            assert words[0] == "bnsgcn", (
                f"{block.where}: {words[0]} is not run here; mark the block as parsed"
            )
            if tuple(words) not in self._done:
                assert main(words[1:]) == 0, f"{block.where}: {words}"
                self._done.add(tuple(words))

    def python(self, block: CodeBlock, names: dict[str, Any]) -> None:
        if block.code not in self._names:
            exec(compile(block.code, block.where, "exec"), names)
            self._names[block.code] = dict(names)
        names |= self._names[block.code]


@pytest.mark.multi
@pytest.mark.slow
@pytest.mark.timeout(900)  # all pages, in one process
@pytest.mark.filterwarnings("ignore")
def test_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNSGCN_CACHE", str(cache_folder().parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    workshop = Workshop()
    for page in pages():
        names: dict[str, Any] = {"__name__": "__docs__"}
        for block in blocks(page, "bash", "python"):
            if block.runs and block.language == "bash":
                workshop.shell(block)
            elif block.runs:
                workshop.python(block, names)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_words_of_blocks_are_right(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "bash", "python", "toml", "yaml"):
        assert block.runs or block.marker.removeprefix("parsed: "), f"{block.where} does not say why"
        match block.language:
            case "bash":
                check_shell(block)
            case "python":
                check_python(block)
            case "toml":
                (tmp_path / "grid.toml").write_text(block.code)
                read_file(tmp_path / "grid.toml", "train", lists=True)
            case "yaml":
                for found in yaml.safe_load_all(block.code):
                    check_manifest(found)


def check_shell(block: CodeBlock) -> None:
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    for words in commands(block.code):
        if words[0] == "bnsgcn":
            parse(words[1:])
            if words[1] in ("partition", "train") and ":" in words[2]:
                parse_source(words[2])
            continue
        assert words[0] in PROGRAMS or words[0].startswith("start="), f"{block.where}: {words[0]}"
        if "launch.train" in words:
            parse(["train", *words[words.index("launch.train") + 1 :]])
        elif words[0] == "sbatch":
            (script,) = (place for place, word in enumerate(words) if word.endswith(".sbatch"))
            parse(["train", words[script + 1], "--run-dir", *words[script + 2 :]])
        elif words[0] == "sh":
            parse(["train", words[2], "--run-dir", words[3], *words[7:]])


def check_python(block: CodeBlock) -> None:
    tree = ast.parse(block.code, block.where)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("bnsgcn", "partition")):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), block.where
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "bnsgcn":
            assert hasattr(bnsgcn, node.attr), f"{block.where}: bnsgcn.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "bnsgcn.train":
            taken = {*inspect.signature(importlib.import_module("bnsgcn.api.session").train).parameters}
            given = {str(keyword.arg) for keyword in node.keywords}
            assert given <= taken | set(TrainConfig.__dataclass_fields__), block.where


def check_manifest(found: dict[str, Any]) -> None:
    """The training command in the containers of a Kubernetes object, where there is one."""
    replicas = found["spec"].get("pytorchReplicaSpecs", {}).values()
    for container in (each for one in replicas for each in one["template"]["spec"]["containers"]):
        words = [*container["command"], *container["args"]]
        assert words[:3] == ["python", "-m", "launch.agent"]
        parse(["train", *words[words.index("launch.train") + 1 :]])


def test_a_wrong_word_is_noticed() -> None:
    page = ROOT / "README.md"
    for language, code in (
        ("python", "import bnsgcn\nbnsgcn.nothing()"),
        ("python", "from bnsgcn.nn import X"),
    ):
        with pytest.raises(AssertionError):
            check_python(CodeBlock(page, 1, "", language, code))
    with pytest.raises(ValueError, match="--laers"):
        check_shell(CodeBlock(page, 1, "", "bash", "bnsgcn train parts --run-dir runs \\\n  --laers 2"))
    assert "layers" in options_of("train")
