"""The least memory that a worker's epoch needs, from its sizes alone; what it took is held against it.

Counted is what must be there at once in the worst moment of backward when every matrix is kept one time,
nothing but masks and normalised rows is computed twice, and no pass needs room of its own:

    | purpose     | what                                                                            |
    |-------------|---------------------------------------------------------------------------------|
    | process     | the interpreter and its libraries                                               |
    | features    | input rows that layer 0 reads, and their aggregate where it is precomputed      |
    | graph       | distinct blocks that are summed, and transposes that are not the block itself   |
    | activations | what backward still reads, a gradient of a layer's result and one of its input  |
    | exchange    | rows of one layer on their way; of all layers, both ways, where they wait       |
    | weights     | weights, gradients and the optimiser's two moments                              |

    D destination rows   C source rows   R halo rows   S rows sent   W columns
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bnsgcn.config import TrainConfig
from bnsgcn.plan.bytes import sent_width
from bnsgcn.train.hop_sets import HopSet

_ID_BYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """One graph layer on one worker: D, C, arcs of the inner and of the halo block, R, S."""

    destination: int
    source: int
    inner_arcs: int
    halo_arcs: int
    received: int
    sent: int


def sizes_of(hops: HopSet) -> list[LayerSizes]:
    """The sizes of the layers that a worker computes."""
    return [
        LayerSizes(
            destination=layer.destination.size,
            source=layer.source.size,
            inner_arcs=layer.inner.csr.num_arcs,
            halo_arcs=layer.halo.csr.num_arcs,
            received=layer.plan.recv_part.size,
            sent=layer.plan.send_part.size,
        )
        for layer in hops.layers
    ]


def least_bytes(
    layers: Sequence[LayerSizes],
    widths: Sequence[int],
    config: TrainConfig,
    parameters: int,
    process: int,
    *,
    directed: bool,
) -> dict[str, int]:
    """Bytes by purpose, as in the table above.

    Args:
        layers: graph layers, lowest first.
        widths: columns of every layer's input and of the logits, `bytes.layer_widths`.
        parameters: numbers in the model's weights.
        process: bytes of a worker before it has read anything.
        directed: whether a block's transpose is another block.
    """
    number = 8 if config.dtype == "float64" else 4
    first = layers[0]
    rows = first.source
    if config.precompute:  # the aggregate; beside it a layer of SAGE reads the rows themselves
        rows = first.destination * (2 if config.model == "sage" else 1)
    return {
        "process": process,
        "features": number * rows * widths[0],
        "graph": _ID_BYTES * _graph_ids(layers, config, directed),
        "activations": number * _activations(layers, widths, config),
        "exchange": number * _exchanged(layers, widths, config),
        "weights": 4 * number * parameters,
    }


def _graph_ids(layers: Sequence[LayerSizes], config: TrainConfig, directed: bool) -> int:
    """Ids and row starts of all distinct blocks."""
    inner, halo = set(), set()
    for index, layer in enumerate(layers):
        if index == 0 and config.precompute:
            continue
        square = layer.destination == layer.source
        forward = layer.inner_arcs + layer.destination
        backward = layer.inner_arcs + layer.source if directed or not square else 0
        inner.add((layer.destination, layer.source, forward + backward))
        halo.add(
            (layer.destination, layer.received, 2 * layer.halo_arcs + layer.destination + layer.received)
        )
    return sum(block[-1] for block in (*inner, *halo))


def _activations(layers: Sequence[LayerSizes], widths: Sequence[int], config: TrainConfig) -> int:
    """Numbers in the worst moment of backward: layers above are done with, those below are not yet."""
    kept, worst = 0, 0
    last = layers[-1].destination
    for index in range(len(widths) - 1):
        width_in, width_out = widths[index], widths[index + 1]
        if index < len(layers):
            layer = layers[index]
            kept += _kept(layer, index, widths, config)
            rows_in, rows_out = layer.source, layer.destination
        else:
            kept += last * (width_in + width_out)
            rows_in = rows_out = last
        gradients = rows_out * width_out + (rows_in * width_in if index else 0)
        worst = max(worst, kept + gradients)
    return worst


def _kept(layer: LayerSizes, index: int, widths: Sequence[int], config: TrainConfig) -> int:
    """Numbers that one graph layer's forward leaves for its backward, input features left out."""
    width_in, width_out = widths[index], widths[index + 1]
    columns, multiplied = sent_width(config, widths, index)
    result_read = config.norm != "none" or index == config.layers - 1
    result = layer.destination * width_out if result_read else 0
    if config.model == "gat":
        projected = (layer.source + layer.received) * _projected(config, width_out, index)
        return result + projected + (layer.source * width_in if index else 0)
    fixed = index == 0 and config.precompute
    aggregate = 0 if multiplied or fixed else layer.destination * columns
    input_read = index > 0 and (config.model == "sage" or multiplied or config.norm == "none")
    return result + aggregate + (layer.source * width_in if input_read else 0)


def _projected(config: TrainConfig, width_out: int, index: int) -> int:
    return width_out * config.heads if index == config.layers - 1 else width_out


def _exchanged(layers: Sequence[LayerSizes], widths: Sequence[int], config: TrainConfig) -> int:
    """Numbers in rows on their way, waiting, averaged and cached."""
    flying, resting = [0], 0
    for index, layer in enumerate(layers):
        if index == 0 and config.precompute:
            continue
        width, _ = sent_width(config, widths, index)
        # Under sampling a share of the rows moves; averages and caches have room for all.
        features, gradients = layer.received * width, layer.sent * width
        flying.append(round(config.sampling_rate * (features + gradients)))
        resting += features * (int(config.halo_cache) + int(config.smooth_features))
        resting += gradients * int(config.smooth_gradients)
    return resting + (sum(flying) if config.pipeline else max(flying))
