"""What a module of a trained model gives for nodes: embeddings from a model of the user's own."""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.nn.conv import Conv
from bnsgcn.train.evaluate import logits_of
from bnsgcn.train.hop_sets import HopSet
from partition.errors import UserError, nearest


def name_of_layer(model: torch.nn.Module, layer: int | str) -> str:
    """The module that `layer` means: a name, or a number among the convolutions and, last, the model itself.

    Raises:
        UserError: The model has no such module or layer.
    """
    if isinstance(layer, str):
        names = [name for name, _ in model.named_modules() if name]
        if layer not in names:
            raise UserError(f"the model has no module {layer!r}{nearest(layer, names)}; see run.model")
        return layer
    layers: list[str] = [name for name, module in model.named_modules() if isinstance(module, Conv)]
    layers.append("")
    if not -len(layers) <= layer < len(layers):
        raise UserError(
            f"layer {layer} of a model with {len(layers)}, its logits included; use 0 to {len(layers) - 1}, "
            f"or -{len(layers)} to -1 from the end"
        )
    chosen: str = layers[layer]
    return chosen


def output_of(model: torch.nn.Module, name: str, hops: HopSet) -> Tensor:
    """What the module of that name gives for the rows of the logits, [D, W]. Collective.

    Raises:
        UserError: It gives no row for each node that its layer computes.
    """
    seen: list[object] = []
    handle = model.get_submodule(name).register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        logits_of(model, hops)
    finally:
        handle.remove()
    output = seen[-1] if seen else None
    # The rows of a hop are among those of the hop before: as many are the same ones.
    levels = [hop.dst for hop in reversed(hops.hops)] + [hops.hops[0].src]
    count = output.shape[0] if isinstance(output, Tensor) and output.dim() else None
    rows = next((level.node_ids for level in levels if len(level) == count), None)
    if rows is None or not isinstance(output, Tensor):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"layer {name} gives {shape}, not a row for each of {hops.logits_rows.size} nodes; take another"
        )
    order = rows.argsort()
    return output[order[torch.searchsorted(rows[order], levels[0].node_ids)]].flatten(1)
