"""What `export` writes gives our logits in other hands: torch alone, PyG's layers, DGL's layers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnsgcn.out.best_model import best_model
from bnsgcn.out.export import export_run
from partition import optional
from partition.errors import UserError
from tests.bnsgcn.out.trained import MODELS, shown, trained
from tests.bnsgcn.small_graphs import CLASSES, FEATURES, PartsFolder, small_graph

ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("bnsgcn", "partition", "launch"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Refuse())
import numpy as np, torch
graph = np.load(sys.argv[2])
run = torch.export.load(sys.argv[1]).module()
for name in ("small", "large"):
    given = [torch.from_numpy(graph[f"{name}_{part}"]) for part in ("x", "indptr", "indices")]
    np.save(f"{sys.argv[3]}/{name}.npy", run(*given).numpy())
try:
    import bnsgcn
except ImportError:
    print("alone")
"""


def arrays_of(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Features, indptr and indices of a small graph."""
    graph = small_graph(kind)
    x = torch.from_numpy(np.asarray(graph.features))
    return (
        x,
        torch.from_numpy(graph.indptr.astype(np.int64)),
        torch.from_numpy(graph.indices.astype(np.int64)),
    )


@pytest.mark.parametrize("options", MODELS, ids=shown)
def test_a_program_gives_our_logits(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Of a directed graph with isolated nodes; self loops that are given change nothing, another arc does."""
    logits = trained(parts_folder("directed", 1), tmp_path / "run", **options)
    file, _ = export_run(tmp_path / "run", str(tmp_path / "model.pt2"))
    run = torch.export.load(str(file)).module()
    x, indptr, indices = arrays_of("directed")
    assert torch.allclose(run(x, indptr, indices), logits, atol=1e-5)

    nodes = x.shape[0]
    rows = torch.repeat_interleave(torch.arange(nodes), indptr.diff())
    order = torch.sort(torch.cat([rows, torch.arange(nodes)]), stable=True).indices
    looped = torch.cat([indices, torch.arange(nodes)])[order]
    assert torch.allclose(run(x, indptr + torch.arange(nodes + 1), looped), logits, atol=1e-5)
    indices[0] = (indices[0] + 1) % nodes
    assert not torch.allclose(run(x, indptr, indices), logits, atol=1e-5)


def test_a_program_runs_without_this_package(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """In a process that refuses to import it; on two graphs of different size."""
    logits = trained(parts_folder("single", 1), tmp_path / "run", model="sage")
    file, _ = export_run(tmp_path / "run", "pt2")
    x, indptr, indices = (array.numpy() for array in arrays_of("single"))
    given = {f"{name}_x": np.concatenate([x] * copies) for name, copies in (("small", 1), ("large", 2))}
    given |= {"small_indptr": indptr, "small_indices": indices}
    given["large_indptr"] = np.concatenate([indptr, indptr[1:] + indptr[-1]])
    given["large_indices"] = np.concatenate([indices, indices + x.shape[0]])
    np.savez(tmp_path / "graph.npz", **given)
    ended = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, file, tmp_path / "graph.npz", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "alone\n"
    assert np.allclose(np.load(tmp_path / "small.npy"), logits, atol=1e-5)
    assert np.allclose(np.load(tmp_path / "large.npy"), torch.cat([logits, logits]), atol=1e-5)


class TheirModel(torch.nn.Module):
    """The lines that `export` prints as a model: what a person would write by hand."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.stacks = {"convs": [], "norms": [], "linears": []}  # type: ignore[var-annotated]
        libraries = {
            name: importlib.import_module(name) for name in ("torch", lines[0].split()[1].split(".")[0])
        }
        for name in list(libraries)[1:]:
            importlib.import_module(f"{name}.nn")
        self.skips, self.flow = torch.nn.ModuleDict(), ""
        for line in lines:
            name, made = line.split(maxsplit=1)
            stack, _, number = name.partition(".")
            if stack in self.stacks:
                self.stacks[stack].append(eval(made, libraries))
            elif stack == "skips":
                self.skips[number] = eval(made, libraries)
            elif stack == "enter":
                self.enter = eval(made, libraries)
            else:
                self.flow += line
        for name, layers in self.stacks.items():
            self.add_module(name, torch.nn.ModuleList(layers))
        self.act = torch.nn.functional.elu if "elu after every" in self.flow else torch.relu

    def forward(self, graph: Any, x: Tensor) -> Tensor:
        depth, outputs = len(self.stacks["convs"]) + len(self.stacks["linears"]), []
        x = self.act(self.enter(x)) if hasattr(self, "enter") else x
        for layer in range(depth):
            if layer < len(self.stacks["convs"]):
                conv, before = self.stacks["convs"][layer], x
                x = conv(x, graph) if isinstance(graph, Tensor) else conv(graph, x)
                if x.dim() == 3:
                    x = x.flatten(1) if layer < depth - 1 else x.mean(1)
                if "plus its input" in self.flow:
                    x = x + (self.skips[str(layer)](before) if str(layer) in self.skips else before)
            else:
                x = torch.cat(outputs, 1) if "(cat)" in self.flow else x
                x = self.stacks["linears"][layer - len(self.stacks["convs"])](x)
            if layer < depth - 1:
                x = self.act(self.stacks["norms"][layer](x) if self.stacks["norms"] else x)
            outputs.append(x)
        return x


def graph_for(library: str, *, self_loops: bool) -> Any:
    """The small undirected graph as PyG (edge_index) or DGL takes it."""
    _, indptr, indices = arrays_of("single")
    nodes = indptr.numel() - 1
    rows = torch.repeat_interleave(torch.arange(nodes), indptr.diff())
    loops = torch.arange(nodes if self_loops else 0)
    source, target = torch.cat([indices, loops]), torch.cat([rows, loops])
    if library == "pyg":
        return torch.stack([source, target])
    return importlib.import_module("dgl").graph((source, target), num_nodes=nodes)


@pytest.mark.parametrize("options", MODELS, ids=shown)
@pytest.mark.parametrize("library", ["pyg", "dgl"])
def test_state_dicts_load_into_their_layers(
    library: str, options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Strictly, and give our logits; with an input weight changed they do not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module({"pyg": "torch_geometric.nn", "dgl": "dgl.nn"}[library])
    except Exception as error:
        pytest.skip(f"{library} cannot be imported here: {error}")
    logits = trained(parts_folder("single", 1), tmp_path / "run", **options)
    file, lines = export_run(tmp_path / "run", library, tmp_path / "theirs.pt")
    state = torch.load(file, weights_only=True)
    model = TheirModel(lines)
    model.load_state_dict(state)
    model.eval()
    graph = graph_for(library, self_loops=options.get("self_loops", True))
    x = arrays_of("single")[0]
    with torch.no_grad():
        assert torch.allclose(model(graph, x), logits, atol=1e-5)
        next(model.parameters()).uniform_()
        assert not torch.allclose(model(graph, x), logits, atol=1e-5)


def test_safetensors_hold_the_weights_by_name(parts_folder: PartsFolder, tmp_path: Path) -> None:
    from safetensors import safe_open

    trained(parts_folder("multi", 1), tmp_path / "run", model="gat", dtype="float64")
    file, _ = export_run(tmp_path / "run", str(tmp_path / "model.safetensors"))
    with safe_open(file, "pt") as content:
        found = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        said = content.metadata()
    expected = best_model(tmp_path / "run").model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (said["features"], said["classes"]) == (str(FEATURES), str(CLASSES))
    assert json.loads(said["config"])["model"] == "gat"


def test_mistakes_are_one_line(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    trained(parts_folder("directed", 1), run, model="gcn")

    def said(to: str, out: Path | None = None) -> str:
        before = set(tmp_path.rglob("*"))
        with pytest.raises(UserError) as failure:
            export_run(run, to, out)
        assert set(tmp_path.rglob("*")) == before
        assert "\n" not in str(failure.value)
        return str(failure.value)

    assert said("model.onnx") == ("--to model.onnx is no form; use FILE.safetensors, FILE.pt2, pyg or dgl")
    assert "did you mean 'pyg'" in said("pygg")
    assert "does not end in .pt2" in said("pt2", tmp_path / "model.pt")
    assert "name 2 files; write --to pt2" in said("a.pt2", tmp_path / "b.pt2")
    assert "there is no folder" in said(str(tmp_path / "none" / "a.pt2"))
    assert "exists already" in said("pt2", _made(tmp_path / "there.pt2"))
    assert "PyG's GCNConv scales both ends of an arc by in-degrees" in said("pyg")

    def absent(name: str) -> Any:
        raise ImportError(f"No module named '{name}'")

    with monkeypatch.context() as patched:
        patched.setattr(optional.importlib, "import_module", absent)
        assert "pip install 'bnsgcn[export]', or use FILE.pt2" in said(str(tmp_path / "a.safetensors"))
    config = json.loads((run / "config.json").read_text())
    config["config"]["hidden"] = 16
    (run / "config.json").write_text(json.dumps(config))
    assert "has convs.0.weight [8, 7], its options and parts make [16, 7]; use the config.json" in said("dgl")
    for shared in run.glob("checkpoints/*/shared.pt"):
        shared.write_bytes(shared.read_bytes()[:-1] + b"x")
    assert "is damaged (shared.pt has changed on disk)" in said("dgl")


def _made(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def test_a_form_without_edge_weights_is_refused(parts_folder: PartsFolder, tmp_path: Path) -> None:
    for model, forms in {"gcn": ("pt2", "dgl"), "sage": ("pt2", "pyg", "dgl"), "gat": ()}.items():
        run = tmp_path / model
        trained(parts_folder("weighted", 1), run, model=model)
        for form in ("safetensors", "pt2", "pyg", "dgl"):
            if form not in forms:
                export_run(run, form)
                continue
            with pytest.raises(UserError, match=f"--to {form}: it has no {model} that takes .* edge weights"):
                export_run(run, form)
