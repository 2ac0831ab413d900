"""The picture of a partitioning: what it needs and what it says when it cannot be drawn."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from partition.build import partition_graph
from partition.errors import UserError
from partition.plot import plot_quality
from partition.quality import inspect_parts

SOURCE = "synthetic:nodes=300,degree=8,features=4,classes=3,communities=4"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    partition_graph(SOURCE, parts=3, out=tmp_path / "parts", method="random")
    return tmp_path / "parts"


@pytest.fixture
def _matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed here")


@pytest.mark.usefixtures("_matplotlib")
def test_plot_is_a_picture(parts: Path, tmp_path: Path) -> None:
    quality = dataclasses.replace(inspect_parts(parts), name=r"costs $\frac and \x1b[31m")
    plot_quality(quality, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "quality.png"]


@pytest.mark.usefixtures("_matplotlib")
def test_plot_mistakes(parts: Path, tmp_path: Path) -> None:
    quality = inspect_parts(parts)
    with pytest.raises(UserError, match="no such folder for the picture"):
        plot_quality(quality, tmp_path / "nowhere" / "quality.png")
    with pytest.raises(UserError, match=r"'\.frob' is no format of a picture; end it in .*\.png"):
        plot_quality(quality, tmp_path / "quality.frob")
    (tmp_path / "quality.png").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        plot_quality(quality, tmp_path / "quality.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "quality.png"]


@pytest.mark.usefixtures("_matplotlib")
@pytest.mark.parametrize("backend", ["frob", "module://matplotlib_inline.backend_inline"])
def test_plot_needs_no_backend_of_windows(parts: Path, tmp_path: Path, backend: str) -> None:
    """Every notebook sets MPLBACKEND; an environment without notebooks does not have what it names."""
    check = (
        "import os, sys\nfrom partition.plot import plot_quality\n"
        "from partition.quality import inspect_parts\n"
        f"plot_quality(inspect_parts({str(parts)!r}), {str(tmp_path / 'quality.svg')!r})\n"
        f"assert 'matplotlib.pyplot' not in sys.modules and os.environ['MPLBACKEND'] == {backend!r}"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env=os.environ | {"MPLBACKEND": backend})
    assert "<svg" in (tmp_path / "quality.svg").read_text()


def test_without_matplotlib_one_line_says_what_to_install(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"matplotlib cannot be imported .*; pip install 'bnsgcn\[report\]'$"):
        plot_quality(inspect_parts(parts), tmp_path / "quality.png")
