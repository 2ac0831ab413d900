"""A run of a model of one's own in use: predicted, exported and opened like any other, by API and command."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bnsgcn
from bnsgcn.config import TrainConfig
from bnsgcn.own import reference_to
from bnsgcn.predict import predict_run, write_parts_like
from bnsgcn.run import evaluate_run, train_worker
from launch.cli import main
from partition.build import partition_graph
from partition.errors import UserError
from tests.bnsgcn.api.small import (
    NODES,
    TiedHeads,
    TwoLayers,
    doubled_loss,
    halved,
    small_graph,
    worst_class_recall,
)

CONFIG = TrainConfig(hidden=8, epochs=3, eval_every=1, lr=0.1, device="cpu")


def references(functions: dict[str, Any]) -> dict[str, Any]:
    return {kind: reference_to(kind, function).to_json() for kind, function in functions.items()}


def trained(folder: Path, model: Any = TwoLayers, graph: bnsgcn.Graph | None = None, **own: Any) -> Path:
    """A run in this process, on parts of one."""
    partition_graph(graph or small_graph(), parts=1, out=folder / "parts")
    train_worker(folder / "parts", folder / "run", CONFIG, own=references({"model": model} | own))
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> bnsgcn.Run:
    return bnsgcn.open_run(trained(tmp_path_factory.mktemp("own")))


def said(capfd: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line with which the command refuses."""
    assert main([str(word) for word in words]) == 2
    line = capfd.readouterr().err
    assert line.startswith("bnsgcn: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("bnsgcn: error: ")[:-1]


def test_safetensors_hold_its_weights(run: bnsgcn.Run, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    file = run.export(str(tmp_path / "model.safetensors"))
    fresh = TwoLayers(6, 3, CONFIG)
    fresh.load_state_dict(load_file(file))
    for name, value in run.model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    assert (run.summary["hardware"], run.summary["parameters"]) != ("unknown", 0)


def test_weights_that_two_modules_share_are_written_for_both(tmp_path: Path) -> None:
    run = bnsgcn.open_run(trained(tmp_path, TiedHeads))
    file = run.export(str(tmp_path / "model.safetensors"))
    from safetensors.torch import load_file

    fresh = TiedHeads(6, 3, CONFIG)
    fresh.load_state_dict(load_file(file))
    assert torch.equal(fresh.first.weight, run.model.get_parameter("first.weight"))


@pytest.mark.parametrize("form", ["pt2", "pyg", "dgl"])
def test_other_forms_are_refused(
    run: bnsgcn.Run, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = "the run's model is a TwoLayers of your own, whose layers only you know; use --to FILE.safetensors"
    with pytest.raises(UserError, match=line):
        run.export(form, tmp_path / ("model.pt2" if form == "pt2" else "model.pt"))
    assert said(capfd, "export", run.path, "--to", form).startswith(line)
    assert not list(tmp_path.iterdir())


def test_other_forms_are_refused_of_a_weighted_graph_too(tmp_path: Path) -> None:
    plain = small_graph()
    ends = np.stack([plain.indices, np.repeat(np.arange(NODES), np.diff(plain.indptr))])
    weighted = bnsgcn.Graph.from_arrays(
        ends,
        features=plain.features,
        labels=plain.labels,
        split=plain.split,
        edge_weight=np.ones(ends.shape[1]),
    )
    run = bnsgcn.open_run(trained(tmp_path, graph=weighted))
    with pytest.raises(UserError, match="is a TwoLayers of your own"):
        run.export("pyg")
    assert run.export("safetensors").is_file()


def test_layers_of_its_own(run: bnsgcn.Run, tmp_path: Path) -> None:
    """By number among its convolutions, by name, and the logits; what is no layer is one line."""
    found = {}
    for layer in (None, -1, 2, 0, "first", 1, "second"):
        predict_run(run.path, tmp_path / f"{layer}.npy", embeddings=layer)
        found[layer] = np.load(tmp_path / f"{layer}.npy")
    assert found[0].shape == (NODES, 8)
    assert np.array_equal(found[0], found["first"])
    for same in (-1, 2, 1, "second"):
        assert np.array_equal(found[same], found[None])
    predict_run(run.path, tmp_path / "some.npy", nodes="5,3", embeddings=0)
    assert np.abs(np.load(tmp_path / "some.npy") - found[0][[5, 3]]).max() < 1e-5
    for layer, line in (
        (3, "layer 3 of a model with 3, its logits included; use 0 to 2, or -3 to -1 from the end"),
        ("secnd", r"the model has no module 'secnd'; did you mean 'second'\?; see run.model"),
    ):
        with pytest.raises(UserError, match=line):
            predict_run(run.path, tmp_path / "none.npy", embeddings=layer)


def test_another_graph_with_it(run: bnsgcn.Run, tmp_path: Path) -> None:
    grown = small_graph(NODES + 20)
    write_parts_like(run.path, grown, tmp_path / "parts", lambda _: None)
    predict_run(run.path, tmp_path / "new.npy", parts_dir=tmp_path / "parts")
    assert np.load(tmp_path / "new.npy").shape == (NODES + 20, 3)


WRONG_NODES: list[tuple[Any, str]] = [
    ([NODES], "nodes: 1 of 1 are out of range, the first is 300; the graph has 300 nodes, 0 to 299"),
    ([3, -1], "nodes: 1 of 2 are out of range, the first is -1; the graph has 300 nodes"),
    ([], "nodes: 0 nodes; name at least 1, or leave it out for all 300"),
    ([0.5], r"nodes: float64 of shape \[1\]; give node ids as int64 \[K\], or a mask of the 300 nodes"),
    ([True, False], r"nodes: bool of shape \[2\]; give node ids"),
    ([[1, 2]], r"nodes: int64 of shape \[1, 2\]; give node ids"),
]


@pytest.mark.parametrize(("nodes", "line"), WRONG_NODES)
def test_nodes_that_are_not_there_are_one_line(run: bnsgcn.Run, nodes: Any, line: str) -> None:
    """Before any worker is started."""
    for ask in (run.predict, lambda given: run.embeddings(0, given)):
        with pytest.raises(UserError, match=line) as failure:
            ask(nodes)
        assert "\n" not in str(failure.value)


def test_a_graph_of_another_width_is_one_line(run: bnsgcn.Run) -> None:
    narrow = bnsgcn.Graph.from_arrays(
        [[0], [1]], features=np.ones((6, 2)), labels=[0, 1, 2] * 2, split=[1, 1, 2, 2, 3, 3], name="narrow"
    )
    line = "narrow has 2 features a node, the run was trained on 6; make the same features as for graph"
    with pytest.raises(UserError, match=line):
        run.predict(graph=narrow)
    with pytest.raises(UserError, match=r"no such file"):
        run.predict(graph="npz:absent.npz")


def test_a_model_that_is_of_another_shape_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The user has changed the file since; then it is gone."""
    file = tmp_path / "changing.py"
    text = (
        "import torch\nfrom bnsgcn.nn import GCNConv\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, features, classes, config):\n        super().__init__()\n"
        "        self.conv = GCNConv(features, classes)\n\n"
        "    def forward(self, hops, x):\n        return self.conv(hops[0], x)\n"
    )
    file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import changing  # type: ignore[import-not-found]

    run_dir = trained(tmp_path, changing.Net)
    file.write_text(text.replace("(features, classes)", "(features, classes, bias=False)"))
    file.with_suffix(".pyc").unlink(missing_ok=True)
    monkeypatch.setitem(sys.modules, "changing", _loaded(file))
    line = r"best checkpoint of .* has conv.bias \[3\], its options and parts make none; use the config"
    for ask in (lambda: bnsgcn.open_run(run_dir).model, lambda: predict_run(run_dir, tmp_path / "x.npy")):
        with pytest.raises(UserError, match=line):
            ask()
    with pytest.raises(UserError, match=r"has model changing:Net .*, this run has changing:Net .*; resume"):
        evaluate_run(run_dir)
    file.unlink()
    monkeypatch.delitem(sys.modules, "changing")
    line = (
        "model changing:Net cannot be imported in a worker (No module named 'changing'); put it into a file"
    )
    assert said(capfd, "export", run_dir, "--to", "safetensors").startswith(line)
    assert said(capfd, "evaluate", run_dir).startswith(line)


def _loaded(file: Path) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OWN: dict[str, Any] = {
    "model": TwoLayers,
    "optimizer": functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9),
    "schedule": halved,
    "loss": doubled_loss,
    "metric": worst_class_recall,
}


def test_functions_of_ones_own_resume_to_the_bit(tmp_path: Path) -> None:
    """And a run that has one goes on with the same one alone."""
    parts = tmp_path / "parts"
    partition_graph(small_graph(), parts=1, out=parts)
    for run_dir, steps in ((tmp_path / "once", (6,)), (tmp_path / "twice", (2, 6))):
        for epochs in steps:
            config = dataclasses.replace(CONFIG, epochs=epochs, resume=epochs != steps[0])
            train_worker(parts, run_dir, config, own=references(OWN))
    once, twice = bnsgcn.open_run(tmp_path / "once"), bnsgcn.open_run(tmp_path / "twice")
    assert twice.history["loss"].tolist() == once.history["loss"].tolist()
    for name, weight in once.model.state_dict().items():
        assert torch.equal(weight, twice.model.state_dict()[name])
    plain = dataclasses.replace(CONFIG, resume=True, epochs=9)
    for kind in OWN:
        others = {other: function for other, function in OWN.items() if other != kind}
        with pytest.raises(UserError, match=f"{kind} of your own is none, the run in .* was started with"):
            train_worker(parts, tmp_path / "once", plain, own=references(others))
        trained(tmp_path / kind, **({kind: OWN[kind]} if kind != "model" else {}))  # each works alone


class Unconvolved(torch.nn.Linear):
    def __init__(self, features: int, classes: int, config: TrainConfig) -> None:
        super().__init__(features, classes)


def nothing(features: int, classes: int, config: TrainConfig) -> None:
    """A factory that has forgotten to return what it made."""


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (nothing, r"model\(features, classes, config\) gave a NoneType, must be a module"),
        (Unconvolved, r"the model has 0 convolutions of bnsgcn.nn, at least 1 is needed"),
    ],
)
def test_what_is_no_model_of_a_graph_is_one_line(model: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        trained(tmp_path, model)


def test_inside_torchrun_no_workers_are_started(
    run: bnsgcn.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    line = f"run.predict starts workers, which .* cannot; use bnsgcn predict {run.path} --out FILE.npy after"
    with pytest.raises(UserError, match=line):
        run.predict()
    with pytest.raises(UserError, match=r"run.evaluate starts workers, .*; use bnsgcn evaluate"):
        run.evaluate()
    with pytest.raises(UserError, match=r"bnsgcn.train_seeds starts workers, .* use bnsgcn train --seeds"):
        bnsgcn.train_seeds(small_graph(), [1, 2], run_dir=tmp_path / "runs")


SCRIPT = """
import bnsgcn
from tests.bnsgcn.api.small import TwoLayers


class Mine(TwoLayers):
    pass


bnsgcn.train({parts!r}, model=Mine, run_dir={elsewhere!r}, epochs=1)
"""


def test_opening_a_run_does_not_train_what_its_script_trains(tmp_path: Path) -> None:
    """The model is found by reading the script, as in a worker no further than the training."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(parts=str(tmp_path / "parts"), elsewhere=str(tmp_path / "other")))
    partition_graph(small_graph(), parts=1, out=tmp_path / "parts")
    own = {"model": {"module": "__main__", "name": "Mine", "script": str(script)}}
    try:
        train_worker(tmp_path / "parts", tmp_path / "run", CONFIG, own=own)
        model = bnsgcn.open_run(tmp_path / "run").model
    finally:
        sys.modules.pop("__bnsgcn_main__", None)
    assert type(model).__name__ == "Mine"
    assert not (tmp_path / "other").exists()
