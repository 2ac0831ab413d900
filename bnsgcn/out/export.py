"""`bnsgcn export`: the best model of a run in a form that others load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from bnsgcn.nn.conv import GATConv, GCNConv
from bnsgcn.out.best_model import BestModel, best_model
from bnsgcn.out.dgl_layers import dgl_layers
from bnsgcn.out.program import write_program
from bnsgcn.out.pyg_layers import pyg_layers
from bnsgcn.out.their_layers import state_of
from partition.disk import check_free, said_when_full
from partition.errors import UserError, nearest
from partition.optional import optional

FormName = Literal["safetensors", "pt2", "pyg", "dgl"]
SUFFIXES: dict[FormName, str] = {"safetensors": ".safetensors", "pt2": ".pt2", "pyg": ".pt", "dgl": ".pt"}


_WEIGHTED = {"pt2": (GATConv,), "pyg": (GATConv, GCNConv), "dgl": (GATConv,)}
"""What computes the same on a weighted graph; PyG's GCNConv is given the `edge_weight`."""


def form_and_file(run_dir: Path, to: str, out: Path | None) -> tuple[FormName, Path]:
    """What `--to` (a form, or a file whose ending says which) and `--out` ask for.

    Raises:
        UserError: neither a form nor such a file, or two files.
    """
    for form, suffix in SUFFIXES.items():
        if to == form:
            named = out or run_dir / (f"model_{form}.pt" if suffix == ".pt" else f"model{suffix}")
            if named.suffix != suffix:
                raise UserError(f"--out {named} does not end in {suffix}, as --to {to} does; name it so")
            return form, named
        if suffix != ".pt" and to.endswith(suffix):
            if out is not None:
                raise UserError(f"--to {to} and --out {out} name 2 files; write --to {form} --out {out}")
            return form, Path(to)
    raise UserError(
        f"--to {to} is no form{nearest(to, SUFFIXES)}; use FILE.safetensors, FILE.pt2, pyg or dgl"
    )


def export_run(run_dir: str | Path, to: str, out: Path | None = None) -> tuple[Path, list[str]]:
    """Write the best model of a run; the file, and lines that say how to load it.

    Raises:
        UserError: `to` is unknown, the file exists already, the disk is full, a package is missing, or see
            `best_model`.
    """
    form, file = form_and_file(Path(run_dir), to, out)
    check_free(file)
    if not file.absolute().parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}; make it first")
    best = best_model(run_dir)
    partial = file.with_name(f"{file.name}.partial")
    size = sum(value.nbytes for value in best.model.state_dict().values())
    try:
        with said_when_full(file, f"the model takes {size / 1e6:,.1f} MB", "make room or name another file"):
            said = _write(best, form, partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file, said


def _write(best: BestModel, form: FormName, path: Path) -> list[str]:
    if form == "safetensors":
        # Weights that two modules share are written for each, as load_state_dict asks for them.
        tensors = {
            name: value.clone(memory_format=torch.contiguous_format)
            for name, value in best.model.state_dict().items()
        }
        content = optional("safetensors.torch").save(tensors, _described(best))
        path.write_bytes(content)
        return [f"{len(tensors)} tensors; options in the header"]
    if best.manifest.weighted and not all(isinstance(conv, _WEIGHTED[form]) for conv in best.gnn.convs):
        raise UserError(
            f"--to {form}: it has no {best.config.model} that takes this graph's edge weights; use --to "
            "safetensors, or parts made with edge_weights=ignore"
        )
    if form == "pt2":
        write_program(best, path)
        return [
            f"features [N, {best.manifest.num_features}], CSR indptr [N+1] and indices [E] in, logits out:",
            "torch.export.load(FILE).module()(x, indptr, indices)",
        ]
    layers = pyg_layers(best) if form == "pyg" else dgl_layers(best)
    with path.open("wb") as file:
        torch.save(state_of(layers), file)
    loops = "with one self loop a node" if best.config.self_loops else "without self loops added"
    return [f"{name:10} {layer.made}" for name, layer in layers.items()] + _flow(best, loops)


def _flow(best: BestModel, loops: str) -> list[str]:
    """How the layers follow on one another."""
    config = best.config
    name = "ReLU" if config.activation == "relu" else config.activation
    said = [f"{name} after every layer and norm but the last; on the graph {loops}"]
    if config.residual:
        said.append("each convolution plus its input, through skips.N where there is one, before the norm")
    if config.jumping_knowledge:
        said.append(f"the outputs of all convolutions go into linears.0 ({config.jumping_knowledge})")
    return said


def _described(best: BestModel) -> dict[str, str]:
    """What the header of a safetensors file says, as texts."""
    manifest = best.manifest
    return {
        "config": json.dumps(best.config.to_json()),
        "features": str(manifest.num_features),
        "classes": str(manifest.num_classes),
        "epoch": str(best.epoch),
    }
