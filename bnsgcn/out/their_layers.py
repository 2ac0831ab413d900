"""What the state dicts for PyG and DGL share: the names, norms and linear layers, and a layer's description.

    convs.0, convs.1, ...   the library's own layers        norms.0, ...   torch.nn.LayerNorm or BatchNorm1d
    linears.0, ...          torch.nn.Linear, after the convolutions
    enter                   torch.nn.Linear before them     skips.0, ...   torch.nn.Linear, of residuals

Layer by layer: convolution (or linear layer), with --residual plus its input (through skips.N where there is
one), then, but for the last, norm and activation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from bnsgcn.nn.conv import Conv
from bnsgcn.nn.models import GNN
from bnsgcn.nn.norm import NormReluDropout
from bnsgcn.out.best_model import BestModel

Weights = dict[str, Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class TheirLayer:
    """One layer of another library: how it is made, and its state dict."""

    made: str
    weights: Weights


MakeLayer = Callable[[Conv], TheirLayer]


def their_layers(best: BestModel, make: MakeLayer) -> dict[str, TheirLayer]:
    """Every layer of a model under its name, convolutions first."""
    model: GNN = best.gnn
    found = {}
    for index, conv in enumerate(model.convs):
        assert isinstance(conv, Conv)
        found[f"convs.{index}"] = make(conv)
    for index, norm in enumerate(model.between):
        assert isinstance(norm, NormReluDropout)
        if norm.norm != "none":
            found[f"norms.{index}"] = _norm(norm)
    if model.enter is not None:
        found["enter"] = _linear(model.enter)
    found |= {f"linears.{index}": _linear(linear) for index, linear in enumerate(model.linears)}
    return found | {f"skips.{layer}": _linear(skip) for layer, skip in model.skips.items()}


def _linear(linear: torch.nn.Module) -> TheirLayer:
    assert isinstance(linear, torch.nn.Linear)
    sizes = f"{linear.in_features}, {linear.out_features}"
    weights = {"weight": linear.weight, "bias": bias_of(linear.bias, linear.out_features, linear.weight)}
    return TheirLayer(f"torch.nn.Linear({sizes})", weights)


def _norm(norm: NormReluDropout) -> TheirLayer:
    if norm.batch is None:
        assert norm.weight is not None
        assert norm.bias is not None
        width = norm.weight.numel()
        return TheirLayer(f"torch.nn.LayerNorm({width})", {"weight": norm.weight, "bias": norm.bias})
    weights = dict(norm.batch.state_dict()) | {"num_batches_tracked": torch.tensor(0)}
    return TheirLayer(f"torch.nn.BatchNorm1d({norm.batch.weight.numel()})", weights)


def bias_of(bias: Tensor | None, width: int, like: Tensor) -> Tensor:
    """A layer's bias; zeros where it has none, since their layers have one unless they are told not to."""
    return like.new_zeros(width) if bias is None else bias


def state_of(layers: dict[str, TheirLayer]) -> Weights:
    """One state dict of all layers."""
    return {
        f"{name}.{key}": value.detach().clone().contiguous()
        for name, layer in layers.items()
        for key, value in layer.weights.items()
    }
