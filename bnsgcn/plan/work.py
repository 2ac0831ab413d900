"""What a worker does in an epoch, as steps of timeline.py: seconds of computing between messages.

Of every graph layer, forward, and in reverse order backward (see nn/conv.py, exchange/post_wait.py):

    | step    | forward                                     | backward                                       |
    |---------|---------------------------------------------|------------------------------------------------|
    | compute | norm, ReLU, dropout of its input; its       | gradient of the neighbours' rows, sum over the |
    |         | product, where that comes first; packing    | transposed halo block, packing                 |
    | post    | boundary rows                               | gradients of halo rows                         |
    | compute | sum over the inner block, own rows' product | weights' gradients, sum over the transpose     |
    | wait    | halo rows                                   | gradients of boundary rows                     |
    | compute | unpacking, sum over the halo block, product | unpacking, adding, norm, ReLU, dropout         |

A sum costs the bytes of the rows that it reads, a product its operations, a pass the bytes that it goes
through, each at the machine's rate; what is left is `overhead_s`, the epoch of a graph of almost nothing, a
share of it in each layer and direction.

    D destination rows   C source rows   R halo rows   S boundary rows   W columns that travel
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bnsgcn.config import TrainConfig, WireDtype
from bnsgcn.plan.bytes import EpochBytes, LayerBytes, multiplies_input, sent_width
from bnsgcn.plan.machine import Machine
from bnsgcn.plan.memory import LayerSizes, aggregate_density, density_of
from bnsgcn.plan.timeline import EpochStep
from partition.store import Part

PACKING: dict[WireDtype, tuple[float, float]] = {
    "fp32": (0.0, 0.0),
    "bf16": (0.0, 1.0),
    "fp16": (4.0, 3.0),
    "int8": (1.0, 2.5),
    "int4": (2.0, 3.0),
}
"""How often the rows are gone through on top of their gathering, when they are packed and when unpacked; see
the kernels' part of benchmarks/NOTES.md."""
SMOOTHING, CACHING = 10.0, 2.0
"""How often rows are gone through when they enter a moving average, or the cache."""
DRAW_S, DRAW_ENTRY_S = 6e-4, 8e-8
"""Of a layer's draw, and of each entry of its boundary lists."""
LOSS_PASSES = 6.0
"""How often the logits are gone through."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layer:
    """One graph layer on one worker."""

    index: int
    sizes: LayerSizes
    width_in: int
    width_out: int
    width: int
    multiplied: bool
    halo_arcs: int
    lane: LayerBytes | None
    density: float | None


class EpochWork:
    """The steps of one worker's epoch under one configuration."""

    def __init__(
        self,
        part: Part,
        layers: Sequence[LayerSizes],
        epoch: EpochBytes,
        config: TrainConfig,
        machine: Machine,
    ) -> None:
        self._part, self._config, self._machine = part, config, machine
        self._number = config.row_number_bytes
        self._widths = config.widths(part.manifest.num_features, part.manifest.num_classes)
        self._weights = 2 if config.model == "sage" else 1
        self._bands = {"sage": 1, "gcn": 1, "gat": 3}[config.model]
        lanes = {lane.layer: lane for lane in epoch.layers}
        self._layers = [self._layer(index, sizes, lanes.get(index)) for index, sizes in enumerate(layers)]

    def steps(self) -> list[EpochStep]:
        """In the order in which they are done."""
        found: list[EpochStep] = []
        for layer in self._layers:
            found += self._forward(layer)
        found.append(self._compute(self._head()))
        for layer in reversed(self._layers):
            found += self._backward(layer)
        found.append(self._compute(extra_s=self._draws()))
        return found

    @property
    def arcs(self) -> int:
        """Arcs that a sum goes over, those of drawn slots alone, in all layers."""
        return sum(layer.sizes.inner_arcs + layer.halo_arcs for layer in self._layers)

    def _layer(self, index: int, sizes: LayerSizes, lane: LayerBytes | None) -> _Layer:
        config, manifest = self._config, self._part.manifest
        first = multiplies_input(manifest, config)
        width, multiplied = sent_width(config, self._widths, index, input_first=first)
        density = None if index or config.input_linear else density_of(self._part)
        return _Layer(
            index=index,
            sizes=sizes,
            width_in=self._widths[index],
            width_out=self._widths[index + 1],
            width=width,
            multiplied=multiplied,
            halo_arcs=sizes.halo_arcs if config.halo_cache else int(sizes.halo_arcs * config.sampling_rate),
            lane=lane,
            density=aggregate_density(density, sizes) if config.precompute else density,
        )

    # ---- forward and backward of a layer ----

    def _forward(self, layer: _Layer) -> list[EpochStep]:
        sizes, fixed = layer.sizes, self._is_fixed(layer)
        rows = sizes.destination if fixed else sizes.source
        before = self._pass_s(rows * layer.width_in * self._input_share(layer))
        if fixed:
            return [self._compute(before + self._overhead() + self._weights * self._product_s(layer, rows))]
        own = self._product_s(layer, sizes.destination)
        behind = own * (self._weights - 1) + self._sum_s(sizes.inner_arcs, layer.width)
        after = self._sum_s(layer.halo_arcs, layer.width)
        if layer.multiplied:
            before += self._product_s(layer, rows)
        else:
            after += own
        return self._exchanged(layer, before + self._overhead(), behind, after, forward=True)

    def _backward(self, layer: _Layer) -> list[EpochStep]:
        sizes, fixed = layer.sizes, self._is_fixed(layer)
        rows = sizes.destination if fixed or not layer.multiplied else sizes.source
        of_weights = self._product_s(layer, rows) + (self._weights - 1) * self._product_s(
            layer, sizes.destination
        )
        if fixed or not (self._is_learnt(layer) or layer.multiplied):
            return [self._compute(self._overhead() + of_weights)]
        before = self._sum_s(layer.halo_arcs, layer.width)
        behind = of_weights + self._sum_s(sizes.inner_arcs, layer.width)
        after = 0.0
        if self._is_learnt(layer):
            of_rows = self._product_s(layer, rows)
            behind += (self._weights - 1) * self._product_s(layer, sizes.destination)
            before, after = (before, of_rows) if layer.multiplied else (before + of_rows, 0.0)
            after += self._pass_s(1.5 * sizes.source * layer.width_in)
        return self._exchanged(layer, before + self._overhead(), behind, after, forward=False)

    def _exchanged(
        self, layer: _Layer, before: float, behind: float, after: float, *, forward: bool
    ) -> list[EpochStep]:
        """`before` is computed, rows leave, `behind` is computed while they fly and `after` with them."""
        lane = layer.lane
        if lane is None:
            return [self._compute(before + behind + after)]
        config, rank = self._config, self._part.index
        matrix = lane.pairs[0 if forward else 1]
        leaving, arriving = matrix[rank], [row[rank] for row in matrix]
        wire = config.wire_dtype if forward else config.gradient_wire_dtype or config.wire_dtype
        out_rows, in_rows = lane.sent_rows[rank], lane.received_rows[rank]
        if not forward:
            out_rows, in_rows = in_rows, out_rows
        out, into = (rows * layer.width * self._number for rows in (out_rows, in_rows))
        packing, unpacking = PACKING[wire]
        smoothed = config.smooth_features if forward else config.smooth_gradients
        unpacking += SMOOTHING * smoothed + CACHING * config.halo_cache
        rate = self._machine.copy_bytes_per_s
        name = f"{layer.index} {'forward' if forward else 'backward'}"
        return [
            self._compute(before + out / rate, packing * out / rate),
            EpochStep(kind="post", lane=name, sent=tuple(leaving)),
            self._compute(behind, transport_s=self._transport_s(leaving)),
            EpochStep(kind="wait", lane=name, age=int(config.pipeline)),
            self._compute(after + into / rate, unpacking * into / rate, self._transport_s(arriving)),
        ]

    # ---- seconds ----

    def _compute(self, seconds: float = 0.0, extra_s: float = 0.0, transport_s: float = 0.0) -> EpochStep:
        return EpochStep(kind="compute", seconds=seconds, extra_s=extra_s, transport_s=transport_s)

    def _transport_s(self, counts: Sequence[int]) -> float:
        """What moving messages of so many bytes takes at one end."""
        machine = self._machine
        messages = sum(1 for count in counts if count)
        return messages * machine.message_s + sum(counts) / machine.transport_bytes_per_s

    def _is_fixed(self, layer: _Layer) -> bool:
        return layer.index == 0 and self._config.precompute

    def _is_learnt(self, layer: _Layer) -> bool:
        """Whether what the layer reads has a gradient."""
        return layer.index > 0 or self._config.input_linear

    def _overhead(self) -> float:
        return self._machine.overhead_s / (2 * len(self._layers))

    def _input_share(self, layer: _Layer) -> float:
        """Of a pass over a layer's input: features are dropped out alone, or in their products."""
        if self._is_learnt(layer):
            return 1.0
        fixed = self._weights if self._is_fixed(layer) else 1
        return 0.5 * fixed * (1.0 if layer.density is None else layer.density)

    def _sum_s(self, arcs: int, width: int) -> float:
        return self._bands * arcs * width * self._number / self._machine.sum_bytes_per_s

    def _pass_s(self, entries: float) -> float:
        return entries * self._number / self._machine.pass_bytes_per_s

    def _product_s(self, layer: _Layer, rows: int) -> float:
        """One product of a layer; of sparse rows it is a sum of a row of the weight for each entry."""
        if layer.density is not None:
            entries = rows * layer.width_in * layer.density
            return entries * layer.width_out * self._config.number_bytes / self._machine.sum_bytes_per_s
        return 2 * rows * layer.width_in * layer.width_out / self._machine.products_per_s

    def _head(self) -> float:
        """The loss, and products of linear layers: after, before and beside the graph layers."""
        rows, config, widths = self._layers[-1].sizes.destination, self._config, self._widths
        flops = 6 * rows * sum(a * b for a, b in config.linear_sizes(widths))
        flops += sum(
            6 * layer.sizes.destination * layer.width_in * layer.width_out
            for layer in self._layers
            if config.skips_through_weight(widths, layer.index)
        )
        if config.input_linear:
            flops += 4 * self._layers[0].sizes.source * self._part.manifest.num_features * config.hidden
        return flops / self._machine.products_per_s + self._pass_s(LOSS_PASSES * rows * widths[-1])

    def _draws(self) -> float:
        """Draws of the next epoch's rows; every row needs none."""
        if self._config.sampling_rate == 1:
            return 0.0
        lanes = [layer.sizes for layer in self._layers if layer.lane is not None]
        return sum(DRAW_S + DRAW_ENTRY_S * (sizes.sent + sizes.received) for sizes in lanes)
