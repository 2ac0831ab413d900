"""The least memory that a worker's epoch needs, from its sizes alone; one formula for all who ask.

Counted is what must be there at once in the worst moment of backward when every matrix is kept one time,
nothing but masks and normalised rows is computed twice, and no pass needs room of its own:

    | purpose     | what                                                                            |
    |-------------|---------------------------------------------------------------------------------|
    | process     | the interpreter and its libraries                                               |
    | features    | input rows that layer 0 reads, and their aggregate where it is precomputed      |
    | graph       | distinct blocks that are summed, weights included, and transposes that are      |
    |             | not the block itself                                                            |
    | activations | what backward still reads, a gradient of a layer's result and one of its input  |
    | exchange    | rows of one layer on their way; of all layers, both ways, where they wait       |
    | weights     | weights, gradients, the optimiser's two moments, averages with --ema            |

A plan adds `passing`, room for two matrices that a pass makes. Nothing here imports torch.

    D destination rows   C source rows   R halo rows   S rows sent   W columns
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bnsgcn.config import TrainConfig
from bnsgcn.plan.bytes import RunBytes, has_sparse_input, sent_width, stays_on_the_host, sums_weights
from partition.part import SPARSE_BELOW
from partition.store import CsrFeatures, Part, open_part, read_manifest

if TYPE_CHECKING:
    from bnsgcn.train.hop_sets import HopSet

PROCESS_BYTES = 270 << 20
"""A worker's memory for the interpreter and its libraries, where it is not measured."""
_ID_BYTES = 4
"""Of an id, and of an arc's weight."""


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


class PlannedSizes:
    """The sizes of every layer of every part, from the parts on disk."""

    def __init__(self, parts: Sequence[Part], config: TrainConfig, sent: RunBytes) -> None:
        self._parts, self._config, self._sent = parts, config, sent
        self._known: dict[tuple[int, int], LayerSizes] = {}

    def on(self, part: Part) -> list[LayerSizes]:
        """The graph layers of one part, lowest first."""
        return [self._layer(part, layer) for layer in range(len(self._sent.rows))]

    def _layer(self, part: Part, layer: int) -> LayerSizes:
        key = (part.index, id(self._sent.rows[layer]))
        if key not in self._known:
            self._known[key] = self._measured(part, layer)
        return self._known[key]

    def _measured(self, part: Part, layer: int) -> LayerSizes:
        rows, boundary = self._sent.rows[layer], self._sent.boundary(layer)
        first = int(part.manifest.part_offset[part.index])
        mine = slice(first, first + part.num_inner)
        destination = rows.destination[mine]
        count = int(destination.sum())
        loops = count * int(self._config.self_loops)
        return LayerSizes(
            destination=count,
            source=int(rows.source[mine].sum()),
            inner_arcs=int(self._arcs(part, inner=True)[destination].sum()) + loops,
            halo_arcs=int(self._arcs(part, inner=False)[destination].sum()),
            received=int(boundary[:, part.index].sum()),
            sent=int(boundary[part.index].sum()),
        )

    def _arcs(self, part: Part, *, inner: bool) -> npt.NDArray[np.int64]:
        """Arcs of every row of a block from the nodes that training sees, [I]."""
        indptr = part.inner_indptr if inner else part.halo_indptr
        if not self._config.inductive:
            return np.diff(indptr)
        first = int(part.manifest.part_offset[part.index])
        sources = first + part.inner_indices if inner else part.halo_ids[part.halo_indices]
        return np.diff(np.concatenate([[0], np.cumsum(self._sent.view[sources])])[indptr])


def peak_bytes(parts_dir: str | Path, config: TrainConfig) -> list[int]:
    """Estimated memory of each part's worker, [P]."""
    count = read_manifest(parts_dir).parts
    parts = [open_part(parts_dir, index, verify=False) for index in range(count)]
    sizes = PlannedSizes(parts, config, RunBytes(parts, config))
    return [sum(worker_bytes(sizes.on(part), part, config, PROCESS_BYTES).values()) for part in parts]


def worker_bytes(
    layers: Sequence[LayerSizes], part: Part, config: TrainConfig, process: int
) -> dict[str, int]:
    """Estimated memory of a worker by purpose: the least, and room for the matrices that a pass makes."""
    manifest = part.manifest
    widths = config.widths(manifest.num_features, manifest.num_classes)
    far = stays_on_the_host(manifest, config)
    least = least_bytes(
        layers,
        (manifest.num_features, manifest.num_classes),
        config,
        parameter_count(config, manifest.num_features, manifest.num_classes),
        process,
        directed=manifest.directed,
        weighted=sums_weights(manifest, config),
        density=density_of(part),
        far=far,
    )
    rows = (far or has_sparse_input(manifest)) and not config.input_linear
    dense = [0 if rows else widths[0], *widths[1:]]
    largest = max(layer.source * max(dense[index : index + 2]) for index, layer in enumerate(layers))
    return least | {"passing": 2 * config.row_number_bytes * largest}


def parameter_count(config: TrainConfig, num_features: int, num_classes: int) -> int:
    """Numbers in the weights of the command line's model."""
    widths, last = config.widths(num_features, num_classes), config.layers - 1
    total = (num_features + 1) * config.hidden if config.input_linear else 0
    total += sum(width_in * width_out for width_in, width_out in config.linear_sizes(widths))
    for layer in range(config.layers):
        width_in, width_out = widths[layer], widths[layer + 1]
        if layer < config.graph_layers:
            total += _convolution(config, width_in, width_out, last=layer == last)
            total += width_in * width_out if config.skips_through_weight(widths, layer) else 0
        total += width_out if layer == last or config.norm != "batch" else 0
        total += 2 * width_out if layer < last and config.norm != "none" else 0
    return total


def _convolution(config: TrainConfig, width_in: int, width_out: int, *, last: bool) -> int:
    """Weights of one convolution without its bias."""
    if config.model == "gat":  # the last layer's heads are each as wide as the result
        projected = width_out * config.heads if last else width_out
        return projected * width_in + 2 * projected
    return width_in * width_out * (2 if config.model == "sage" else 1)


def least_bytes(
    layers: Sequence[LayerSizes],
    sizes: tuple[int, int],
    config: TrainConfig,
    parameters: int,
    process: int,
    *,
    directed: bool,
    weighted: bool,
    density: float | None,
    far: bool = False,
) -> dict[str, int]:
    """Bytes by purpose, as in the table above.

    Args:
        layers: graph layers, lowest first.
        sizes: features and classes of the graph.
        parameters: numbers in the model's weights.
        process: bytes of a worker before it has read anything.
        directed: whether a block's transpose is another block.
        weighted: whether arcs have weights that are summed.
        density: share of the input features that are set, `density_of`; None = they are dense.
        far: whether they stay on the host while a GPU computes, `bytes.stays_on_the_host`.
    """
    number, widths = config.row_number_bytes, config.widths(*sizes)
    first = (density is not None or far) and not config.input_linear
    return {
        "process": process,
        "features": round(sizes[0] * _feature_bytes(layers[0], config, density)),
        "graph": _ID_BYTES * _graph_ids(layers, config, directed, 2 if weighted else 1),
        "activations": number * _activations(layers, widths, config, first),
        "exchange": number * _exchanged(layers, widths, config, first),
        "weights": weight_copies(config) * config.number_bytes * parameters,
    }


def weight_copies(config: TrainConfig) -> int:
    """How many numbers are kept for each weight."""
    return 5 if config.ema else 4


def density_of(part: Part) -> float | None:
    """Share of a part's features that are set; None = they are dense."""
    features = part.features
    if not isinstance(features, CsrFeatures):
        return None
    return features.columns.size / (part.num_inner * features.num_columns)


def aggregate_density(density: float | None, layer: LayerSizes) -> float | None:
    """Expected share that is set in sums over a layer's neighbours, were columns set independently.

    None where the aggregate is dense, because sparse would not pay or what is summed is dense.
    """
    if density is None:
        return None
    arcs = (layer.inner_arcs + layer.halo_arcs) / max(1, layer.destination)
    share = float(1 - (1 - density) ** arcs)
    return None if share > SPARSE_BELOW else share


def _feature_bytes(first: LayerSizes, config: TrainConfig, density: float | None) -> float:
    """Bytes of a column of the input rows that layer 0 reads.

    With a precomputed aggregate that is the aggregate; beside it a layer of SAGE reads the rows themselves.
    """
    own = _entry_bytes(config, density)
    if not config.precompute:
        return first.source * own
    aggregate = _entry_bytes(config, aggregate_density(density, first))
    return first.destination * (aggregate + (own if config.model == "sage" or config.residual else 0))


def _entry_bytes(config: TrainConfig, density: float | None) -> float:
    """Bytes of an entry of rows: of a sparse one value, column, and row and place in the transpose."""
    if density is None:
        return config.row_number_bytes
    return density * (config.number_bytes + 3 * _ID_BYTES)


def _graph_ids(layers: Sequence[LayerSizes], config: TrainConfig, directed: bool, per_arc: int) -> int:
    """Row starts of all distinct blocks, and `per_arc` ids or weights of each arc."""
    inner, halo = set(), set()
    for index, layer in enumerate(layers):
        if index == 0 and config.precompute:
            continue
        square = layer.destination == layer.source
        inner_arcs, halo_arcs = per_arc * layer.inner_arcs, 2 * per_arc * layer.halo_arcs
        forward = inner_arcs + layer.destination
        backward = inner_arcs + layer.source if directed or not square else 0
        inner.add((layer.destination, layer.source, forward + backward))
        halo.add((layer.destination, layer.received, halo_arcs + layer.destination + layer.received))
    return sum(block[-1] for block in (*inner, *halo))


def _activations(
    layers: Sequence[LayerSizes], widths: Sequence[int], config: TrainConfig, first: bool
) -> int:
    """Numbers in the worst moment of backward: layers above are done with, those below are not yet."""
    kept, worst = 0, 0
    last = layers[-1].destination
    linear = config.linear_sizes(widths)
    for index in range(len(widths) - 1):
        width_in, width_out = widths[index], widths[index + 1]
        if index < len(layers):
            layer = layers[index]
            kept += _kept(layer, index, widths, config, first)
            rows_in, rows_out = layer.source, layer.destination
        else:
            width_in, width_out = linear[index - len(layers)]
            kept += last * (width_in + width_out)
            rows_in = rows_out = last
        gradients = rows_out * width_out + (rows_in * width_in if _is_learnt(index, config) else 0)
        worst = max(worst, kept + gradients)
    return worst


def _is_learnt(index: int, config: TrainConfig) -> bool:
    """Whether what a layer reads has a gradient."""
    return index > 0 or config.input_linear


def _kept(layer: LayerSizes, index: int, widths: Sequence[int], config: TrainConfig, first: bool) -> int:
    """Numbers that one graph layer's forward leaves for its backward, input features left out."""
    width_in, width_out = widths[index], widths[index + 1]
    columns, multiplied = sent_width(config, widths, index, input_first=first)
    result_read = config.norm != "none" or index == config.layers - 1
    result = layer.destination * width_out if result_read else 0
    if config.model == "gat":
        projected = (layer.source + layer.received) * _projected(config, width_out, index)
        return result + projected + (layer.source * width_in if _is_learnt(index, config) else 0)
    fixed = index == 0 and config.precompute
    aggregate = 0 if multiplied or fixed else layer.destination * columns
    through = config.skips_through_weight(widths, index)
    kept_by_reader = config.model == "sage" or multiplied or through
    input_read = _is_learnt(index, config) and (kept_by_reader or config.norm != "layer")
    if config.activation != "relu" and config.norm != "none" and index < config.layers - 1:
        result += layer.destination * width_out
    return result + aggregate + (layer.source * width_in if input_read else 0)


def _projected(config: TrainConfig, width_out: int, index: int) -> int:
    return width_out * config.heads if index == config.layers - 1 else width_out


def _exchanged(layers: Sequence[LayerSizes], widths: Sequence[int], config: TrainConfig, first: bool) -> int:
    """Numbers in rows on their way, waiting, averaged and cached."""
    flying, resting = [0], 0
    for index, layer in enumerate(layers):
        if index == 0 and config.precompute:
            continue
        width, _ = sent_width(config, widths, index, input_first=first)
        # Under sampling a share of the rows moves; averages and caches have room for all.
        features, gradients = layer.received * width, layer.sent * width
        flying.append(round(config.sampling_rate * (features + gradients)))
        resting += features * (int(config.halo_cache) + int(config.smooth_features))
        resting += gradients * int(config.smooth_gradients)
    return resting + (sum(flying) if config.pipeline else max(flying))
