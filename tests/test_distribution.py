"""What is handed out: the sdist holds what the README and the tests use, the wheel all of the packages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from launch.options import Train
from launch.parse import parse

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("partition", "bnsgcn", "launch")
USED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt", "setup.cfg")
MORE = ("SECURITY.md", "CITATION.cff", "Dockerfile", ".dockerignore", ".gitignore", "mkdocs.yml", "docs")
OURS = (
    *USED,
    *MORE,
    "examples",
    "pyproject.toml",
    "ruff.toml",
    "MANIFEST.in",
    ".ci",
    *PACKAGES,
    "tests",
    "benchmarks",
)
PASSING = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache", ".hypothesis", "*.egg-info")


def files(folder: Path, *names: str) -> set[str]:
    """Files below some entries of a folder, without what tools leave behind."""
    found = {
        path for name in names for path in [folder / name, *(folder / name).rglob("*")] if path.is_file()
    }
    named = {path.relative_to(folder) for path in found}
    return {str(path) for path in named if not {"__pycache__", ".pytest_cache"} & set(path.parts)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and a wheel, made from a copy of the tree without a network."""
    pytest.importorskip("setuptools")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in OURS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=PASSING)
        else:
            shutil.copy(ROOT / name, tree / name)
    for kind in ("sdist", "wheel"):
        make = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
        subprocess.run([sys.executable, "-c", make], cwd=tree, check=True, capture_output=True)
    return out


def test_the_sdist_holds_what_its_documents_and_tests_use(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert files(ROOT, *OURS) <= held
    assert {"tests/launch/scene.py", "benchmarks/results/epoch.md", ".ci/run", "MANIFEST.in"} <= held


def test_the_wheel_holds_the_packages_whole(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert files(ROOT, *PACKAGES) <= held
    assert {"launch/recipes/reddit.toml", "launch/slurm/train.sbatch", "bnsgcn/py.typed"} <= held
    assert not [name for name in held if name.startswith(("tests", "benchmarks"))]


def test_the_image_is_made_of_what_is_there_and_runs_the_demo() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {name for step, words in steps if step == "COPY" for name in words.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    (base,) = (words for step, words in steps if step == "FROM")
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)
    assert all("-c constraints.txt" in words for _, words in steps if "pip install" in words)
    order = [step for step, _ in steps]
    assert order.index("USER") > len(order) - 1 - order[::-1].index(
        "RUN"
    )  # nothing is installed as that user
    assert isinstance(parse(json.loads(steps[-1][1])[1:]), Train)


def test_the_version_is_the_same_everywhere() -> None:
    (version,) = re.findall(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"bnsgcn:{version}\n" in (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
