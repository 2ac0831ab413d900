"""The models of the command line: a stack of graph convolutions, then perhaps linear layers.

The same forward serves training, evaluation and prediction, on one process or many: only the hops differ.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.kernels.input_rows import Input
from bnsgcn.nn.conv import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.nn.dropout import Dropout
from bnsgcn.nn.hop import Hop, Rows, chosen_rows
from bnsgcn.nn.norm import NormReluDropout
from bnsgcn.nn.products import Term, product, sum_of_products
from partition.store import Manifest

_FEATURES = 2
"""Copy of layer 0's dropout mask that is the features', where a linear layer reads them."""


class Linear(torch.nn.Linear):
    """torch.nn.Linear through our products, so that precision options hold for it too."""

    def forward(self, h: Tensor, precision: torch.dtype | None = None) -> Tensor:
        """[N, in] -> [N, out]."""
        return product(h, self.weight, self.bias, precision=precision)


class Enter(Linear):
    """The linear layer before the graph layers, with dropout of the features, activation and dropout."""

    def __init__(self, num_features: int, config: TrainConfig) -> None:
        super().__init__(num_features, config.hidden)
        self.drop = Dropout(config.dropout_of_features, layer=0)
        self.after = NormReluDropout(
            config.hidden, "none", dropout=config.dropout, layer=0, activation=config.activation
        )

    def rows(self, rows: Rows, x: Input) -> Tensor:
        """x [C, F] of `rows` -> [C, hidden]."""
        term = Term(x, self.weight, self.drop.mask(rows, copy=_FEATURES))
        h: Tensor = self.after(rows, rows.keep(sum_of_products([term], self.bias, precision=rows.precision)))
        return h


class GNN(torch.nn.Module):
    """`layers` layers, the last `linear_layers` of them linear; norm, activation and dropout between them.

    Graph layer l, with h_0 the features, or with --input-linear what a linear layer makes of them:

        h_(l+1) = dropout(activation(norm(conv_l(h_l) [+ h_l, or W_l h_l, with --residual])))

    The first linear layer reads the last of these, or with --jumping-knowledge all of them, side by side or
    their largest entries (Xu et al., ICML 2018, section 4.1).

    Args:
        num_features: F, width of the input.
        num_classes: C, width of the logits.
        config: what --help groups under model.
    """

    takes_sparse = True
    """Whether `forward` knows what to do with rows that are no tensor; a model that says nothing gets one."""

    def __init__(self, num_features: int, num_classes: int, config: TrainConfig) -> None:
        super().__init__()
        depth, widths = config.graph_layers, config.widths(num_features, num_classes)
        self.joins, self.residual = config.jumping_knowledge, config.residual
        self.enter = Enter(num_features, config) if config.input_linear else None
        self.convs = torch.nn.ModuleList(
            _conv(config, layer, widths[layer], widths[layer + 1]) for layer in range(depth)
        )
        self.linears = torch.nn.ModuleList(
            Linear(*sizes, bias=layer == config.layers - 1 or config.norm != "batch")
            for layer, sizes in enumerate(config.linear_sizes(widths), start=depth)
        )
        self.between = torch.nn.ModuleList(
            NormReluDropout(
                widths[layer + 1],
                config.norm,
                dropout=config.dropout,
                layer=layer + 1,
                activation=config.activation,
            )
            for layer in range(config.layers - 1)
        )
        self.skips = torch.nn.ModuleDict(
            {
                str(layer): Linear(widths[layer], widths[layer + 1], bias=False)
                for layer in range(depth)
                if config.skips_through_weight(widths, layer)
            }
        )

    def forward(self, hops: Sequence[Hop], x: Input, layers: int | None = None) -> Tensor:
        """x [C, F] of hops[0]'s source rows -> logits of the last hop's destination rows.

        With `layers`, what comes out of the first so many, norm and activation included.
        """
        depth = len(self.convs)
        h: Input = x if self.enter is None else self.enter.rows(hops[0].src, x)
        outputs: list[Tensor] = []
        for layer in range(depth if layers is None else min(layers, depth)):
            h = self._after(layer, hops[layer], self._convolved(layer, hops[layer], h))
            outputs.append(h)
        assert isinstance(h, Tensor)
        if self.joins is not None and len(outputs) == depth:
            h = joined(hops, outputs, self.joins)
        linears = self.linears if layers is None else self.linears[: max(0, layers - depth)]
        for layer, linear in enumerate(linears, start=depth):
            h = self._after(layer, hops[-1], linear(h, hops[-1].dst.precision))
        return h.to(next(self.parameters()).dtype)

    def _convolved(self, layer: int, hop: Hop, h: Input) -> Tensor:
        conv = self.convs[layer]
        assert isinstance(conv, Conv)
        z: Tensor = conv(hop, h)
        if not self.residual:
            return z
        if str(layer) not in self.skips:
            assert isinstance(h, Tensor)
            return hop.dst.keep(z + conv.dropout(hop.dst, hop.self_rows(h)))
        skip, precision = self.skips[str(layer)], hop.dst.precision
        assert isinstance(skip, Linear)
        if isinstance(h, Tensor):
            term = Term(hop.self_rows(h), skip.weight, conv.dropout.mask(hop.dst))
            return hop.dst.keep(z + sum_of_products([term], precision=precision))
        term = Term(h, skip.weight, conv.dropout.mask(hop.src))
        return hop.dst.keep(z + hop.self_rows(hop.src.keep(sum_of_products([term], precision=precision))))

    def _after(self, layer: int, hop: Hop, h: Tensor) -> Tensor:
        if layer == len(self.between):
            return h
        made: Tensor = self.between[layer](hop.dst, h)
        return made


def joined(hops: Sequence[Hop], outputs: Sequence[Tensor], how: Literal["cat", "max"]) -> Tensor:
    """The outputs of all graph layers for the destination rows of the last, side by side or their largest."""
    place, rows = None, [outputs[-1]]
    for hop, output in zip(reversed(hops[1:]), reversed(outputs[:-1]), strict=True):
        if hop.dst_place is not None:
            place = hop.dst_place if place is None else hop.dst_place[place]
        rows.append(output if place is None else chosen_rows(output, place, hop.src.kernels))
    return torch.cat(rows[::-1], 1) if how == "cat" else functools.reduce(torch.maximum, rows)


def build_model(manifest: Manifest, config: TrainConfig) -> torch.nn.Module:
    """The model that the options name, with weights that depend on --seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = GNN(manifest.num_features, manifest.num_classes, config)
        if config.init == "uniform":
            draw_uniform(model)
        return model


@torch.no_grad()
def draw_uniform(model: torch.nn.Module) -> None:
    """Draw weights and biases of convolutions and linear layers within 1/sqrt(fan in), as torch.nn.Linear."""
    for module in model.modules():
        if isinstance(module, Conv | Linear):
            for parameter in module.parameters(recurse=False):
                bound = (parameter.shape[-1] if parameter.dim() > 1 else module.in_features) ** -0.5
                parameter.uniform_(-bound, bound)


def _conv(config: TrainConfig, layer: int, width_in: int, width_out: int) -> Conv:
    last = layer == config.layers - 1
    of_features = layer == 0 and not config.input_linear
    shared: dict[str, Any] = {
        # Of the other layers: in NormReluDropout, fused.
        "dropout": config.dropout_of_features if of_features else 0.0,
        "layer": layer,
        "bias": last or config.norm != "batch",  # a batch norm takes any bias out again
    }
    if config.model == "gcn":
        return GCNConv(width_in, width_out, **shared)
    if config.model == "sage":
        return SAGEConv(width_in, width_out, **shared)
    per_head = width_out if last else width_out // config.heads
    return GATConv(width_in, per_head, heads=config.heads, concat=not last, **shared)
