"""The reference says all that there is, and nothing that there is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import bnsgcn
from launch.cli import main
from launch.options import COMMANDS, THEMES
from launch.parse import options_of
from tests.docs.blocks import ROOT, from_code
from tests.launch.scene import write_parts
from tests.test_layout import ROOMS

REFERENCE = ROOT / "docs" / "reference"
PACKAGES = ("partition", "bnsgcn", "launch")


def first_column(page: str, heading: str) -> set[str]:
    """Names in the first column of the table below a heading."""
    section = re.split(r"^## ", (REFERENCE / page).read_text(), flags=re.MULTILINE)
    (found,) = (each for each in section if each.startswith(heading))
    return set(re.findall(r"^\| `([^`]+)` \|", found, re.MULTILINE))


def test_every_command_and_option_is_in_the_reference() -> None:
    page = from_code().commands_page()
    for name in COMMANDS:
        assert f"## `bnsgcn {name}`" in page
        for option in options_of(name):
            assert f"<span id='{name}-{option}'></span>" in page
    for theme in THEMES:
        assert f"### {theme} {{ #train-{theme} }}" in page


def test_every_public_name_is_in_the_reference() -> None:
    shown = re.findall(r"^::: (\S+)$", (REFERENCE / "python.md").read_text(), re.MULTILINE)
    assert set(bnsgcn.__all__) <= {name.rpartition(".")[2] for name in shown}


def test_every_variable_is_in_the_reference() -> None:
    page = (REFERENCE / "environment.md").read_text()
    files = [path for package in (*PACKAGES, "benchmarks") for path in (ROOT / package).rglob("*.py")]
    used = {name for path in files for name in re.findall(r"BNSGCN_[A-Z]+(?:_[A-Z]+)*", path.read_text())}
    assert used == set(re.findall(r"BNSGCN_[A-Z_]+", page))


def test_messages_of_all_modules_are_listed() -> None:
    listed = from_code().messages()
    assert "holds a run already; add --resume or name a new folder" in listed
    assert "<var>" in listed
    assert listed.count("\n- ") > 150


@pytest.mark.multi
def test_the_run_folder_is_as_the_reference_says(tmp_path: Path) -> None:
    parts, runs = write_parts(tmp_path / "parts"), tmp_path / "runs"
    few = ("--layers", "2", "--hidden", "8", "--epochs", "4", "--eval-every", "2")
    policy = ("--pipeline", "--sampling-rate", "0.5", "--telemetry-every", "1", "--seeds", "3")
    assert main(["train", str(parts), "--run-dir", str(runs), *few, *policy]) == 0
    run = runs / "seed_3"

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {re.sub(r"layer_\d+", "layer_K", name) for line in lines for name in line}
    assert names == first_column("run-folder.md", "A line of")
    assert json.loads((run / "summary.json").read_text()).keys() == first_column(
        "run-folder.md", "summary.json"
    )
    named = (REFERENCE / "run-folder.md").read_text().partition("## Scores of several seeds")[2]
    assert set(json.loads((runs / "seeds.json").read_text())) <= set(re.findall(r"`(\w+)`", named))

    files = {re.sub(r"\d+", "K", str(path.relative_to(run))) for path in run.rglob("*") if path.is_file()}
    known = {re.sub(r"N+", "K", name) for name in first_column("run-folder.md", "Files")}
    assert files <= known
    assert {f"seed_{3}", "seeds.json"} <= {path.name for path in runs.iterdir()}


def test_the_layout_page_names_every_room() -> None:
    page = (ROOT / "docs" / "design" / "layout.md").read_text()
    named = re.findall(r"`(\w+)/?`", "".join(re.findall(r"^\| (.*?) \|", page, re.MULTILINE)))
    assert set(named) == set(ROOMS)


def test_security_says_of_every_command_where_it_listens() -> None:
    listens = (ROOT / "SECURITY.md").read_text().partition("## What listens where")[2]
    assert {name for name in COMMANDS if f"`{name}`" not in listens} == set()


def test_the_readme_is_short_and_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") < 150
    for name in COMMANDS:
        assert re.search(rf"^\| `bnsgcn {name}[ `]", readme, re.MULTILINE), name


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text()):
        assert target.startswith("http") or (ROOT / target).exists(), target
