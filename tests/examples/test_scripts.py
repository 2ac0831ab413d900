"""The example scripts and the notebook run as they are, on small data in the libraries' own form."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest

from tests.examples import small_files

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [pytest.mark.multi, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _home_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are cached below the home folder; compiled kernels are taken from where they are."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    monkeypatch.setenv("BNSGCN_CACHE", os.environ.get("BNSGCN_CACHE", f"{base}/bnsgcn"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))


@pytest.fixture
def ran(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """ran(name, *words): what the script of that name prints."""

    def run(name: str, *words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return out

    return run


def needs(*names: str) -> None:
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except Exception as error:
            pytest.skip(f"{name} cannot be imported here: {error}")


def accuracy(out: str) -> float:
    found = re.search(r"^test accuracy (0\.\d+|1\.0+)[ ,]", out, re.MULTILINE)
    assert found, out
    return float(found[1])


def test_pyg_graph(ran, tmp_path: Path) -> None:
    needs("torch_geometric.nn")
    small_files.write_amazon(tmp_path)
    out = ran("pyg_graph.py", tmp_path)
    assert accuracy(out) > 0.6
    found = re.search(r"differ from ours by at most (\S+)$", out, re.MULTILINE)
    assert found
    assert float(found[1]) < 1e-4


def test_dgl_graph(ran, tmp_path: Path) -> None:
    needs("dgl")
    small_files.write_reddit(tmp_path)
    out = ran("dgl_graph.py", tmp_path)
    assert accuracy(out) > 0.6
    assert re.search(r"of all nodes 0\.[6-9]\d+ are right\n$", out)


def test_arrays_own_model(ran) -> None:
    out = ran("arrays_own_model.py", 1000)
    assert accuracy(out) > 0.6
    assert "of a SkipNet\n" in out
    assert out.endswith("nodes 0, 1, 2 after the first layer: (3, 32)\n")


def test_ogb_seeds(ran, tmp_path: Path) -> None:
    needs("pandas")
    small_files.write_arxiv(tmp_path)
    out = ran("ogb_seeds.py", "0,1", tmp_path, 30)
    entry = re.search(
        r"  Test accuracy        (0\.\d{4}) ± 0\.\d{4} \(2 seeds\)\n"
        r"  Validation accuracy  0\.\d{4} ± 0\.\d{4} \(2 seeds\)\n"
        r"  #Params              [\d,]+\n"
        r"  Hardware             1 x .*\n"
        r"the best of them is Run\(.*seed_[01]', test accuracy [01]\.\d{4}\)\n$",
        out,
    )
    assert entry, out
    assert float(entry[1]) > 0.6
    again = ran("ogb_seeds.py", "0,1", tmp_path, 30)
    assert again.count("has ended") == 2
    assert again.endswith(entry[0])


def test_notebook(tmp_path: Path) -> None:
    """Every cell runs, progress comes line by line, and the results are there."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "outputs are not kept"
    NotebookClient(
        book,
        timeout=200,
        startup_timeout=120,
        iopub_timeout=60,  # else what a busy machine shows late is left out
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    said = {}
    for index, cell in enumerate(book.cells):
        pieces = [
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.get("outputs", [])
        ]
        said[index] = "".join(pieces)
    whole = "\n".join(said.values())
    assert re.search(r"^ +40 +\d\.\d+ +\d\.\d+ ", whole, re.MULTILINE), whole  # the last epoch's line
    for words in (
        "sage on synthetic · 3,000 nodes",
        "val_score",
        "((3000, 32), dtype('float32'))",
        "GNN(",
        "TwoLayers on synthetic",
        "Run('runs/own', test accuracy 0.",
    ):
        assert words in whole, whole
    assert (tmp_path / "model.safetensors").is_file()
