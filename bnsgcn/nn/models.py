"""The models of the command line: a stack of graph convolutions, then perhaps linear layers.

The same forward serves training, evaluation and prediction, on one process or many: only the hops differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.kernels.input_rows import Input
from bnsgcn.nn.conv import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.nn.hop import Hop
from bnsgcn.nn.norm import NormReluDropout
from bnsgcn.nn.products import product
from partition.store import Manifest


class Linear(torch.nn.Linear):
    """torch.nn.Linear through our products, so that precision options hold for it too."""

    def forward(self, h: Tensor, precision: torch.dtype | None = None) -> Tensor:
        """[N, in] -> [N, out]."""
        return product(h, self.weight, self.bias, precision=precision)


class GNN(torch.nn.Module):
    """`layers` layers, the last `linear_layers` of them linear; norm, ReLU and dropout between them.

    Args:
        num_features: F, width of the input.
        num_classes: C, width of the logits.
        config: model, layers, hidden, heads, dropout, norm and linear_layers are used.
    """

    takes_sparse = True
    """Whether `forward` knows what to do with rows that are no tensor; a model that says nothing gets one."""

    def __init__(self, num_features: int, num_classes: int, config: TrainConfig) -> None:
        super().__init__()
        depth = config.layers - config.linear_layers
        widths = config.widths(num_features, num_classes)
        self.convs = torch.nn.ModuleList(
            _conv(config, layer, widths[layer], widths[layer + 1]) for layer in range(depth)
        )
        self.linears = torch.nn.ModuleList(
            Linear(
                widths[layer], widths[layer + 1], bias=layer == config.layers - 1 or config.norm != "batch"
            )
            for layer in range(depth, config.layers)
        )
        self.between = torch.nn.ModuleList(
            NormReluDropout(widths[layer + 1], config.norm, dropout=config.dropout, layer=layer + 1)
            for layer in range(config.layers - 1)
        )

    def forward(self, hops: Sequence[Hop], x: Input, layers: int | None = None) -> Tensor:
        """x [C, F] of hops[0]'s source rows -> logits of the last hop's destination rows.

        With `layers`, what comes out of the first so many, norm and ReLU included.
        """
        depth = len(self.convs)
        h = self._after(0, hops[0], self.convs[0](hops[0], x))
        for layer, conv in enumerate(self.convs[1:layers], start=1):
            h = self._after(layer, hops[layer], conv(hops[layer], h))
        linears = self.linears if layers is None else self.linears[: max(0, layers - depth)]
        for layer, linear in enumerate(linears, start=depth):
            h = self._after(layer, hops[-1], linear(h, hops[-1].dst.precision))
        return h.to(next(self.parameters()).dtype)

    def _after(self, layer: int, hop: Hop, h: Tensor) -> Tensor:
        if layer == len(self.between):
            return h
        activated: Tensor = self.between[layer](hop.dst, h)
        return activated


def build_model(manifest: Manifest, config: TrainConfig) -> torch.nn.Module:
    """The model that the options name, with weights that depend on --seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return GNN(manifest.num_features, manifest.num_classes, config)


def _conv(config: TrainConfig, layer: int, width_in: int, width_out: int) -> Conv:
    last = layer == config.layers - 1
    shared: dict[str, Any] = {
        "dropout": config.dropout if layer == 0 else 0.0,  # of the other layers: in NormReluDropout, fused
        "layer": layer,
        "bias": last or config.norm != "batch",  # a batch norm takes any bias out again
    }
    if config.model == "gcn":
        return GCNConv(width_in, width_out, **shared)
    if config.model == "sage":
        return SAGEConv(width_in, width_out, **shared)
    per_head = width_out if last else width_out // config.heads
    return GATConv(width_in, per_head, heads=config.heads, concat=not last, **shared)
