"""What a run will cost, before it is run: memory, bytes and epoch time of every worker.

Bytes are exact (bytes.py). Memory and time are estimates from a sum over layers; the formulas are in
`_compute_s`, `_exposed_s` and memory.py. One process, parts memory-mapped; nothing is trained.

    D destination rows   C source rows   W columns that travel and are summed
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnsgcn.config import TrainConfig
from bnsgcn.plan.bytes import EpochBytes, RunBytes, multiplies_input, sent_width
from bnsgcn.plan.device_memory import device_bytes
from bnsgcn.plan.machine import Machine
from bnsgcn.plan.memory import (
    LayerSizes,
    PlannedSizes,
    aggregate_density,
    density_of,
    parameter_count,
    worker_bytes,
)
from partition.store import Part, open_part, read_manifest

STEADY_EPOCH = 2
"""The epoch that stands for all: past the first ones of pipeline and cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankPlan:
    """One worker's share."""

    rank: int
    inner_rows: int
    halo_slots: int
    arcs_per_epoch: int
    sent_bytes: int
    received_bytes: int
    compute_s: float
    exposed_s: float
    memory_bytes: dict[str, int]
    """By what it is for; see memory.py."""
    device_bytes: dict[str, int]
    """Of it what is on the worker's GPU; see device_memory.py. Empty on CPU."""

    @property
    def peak_bytes(self) -> int:
        """All of it."""
        return sum(self.memory_bytes.values())

    @property
    def peak_device_bytes(self) -> int:
        """All that is on its GPU."""
        return sum(self.device_bytes.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run of `config` on a folder of parts costs."""

    config: TrainConfig
    name: str
    parts: int
    ranks: tuple[RankPlan, ...]
    sent: EpochBytes
    reduce_bytes: int
    reduce_s: float
    machine: Machine

    @property
    def epoch_s(self) -> float:
        """The slowest worker's epoch."""
        return max(rank.compute_s + rank.exposed_s for rank in self.ranks) + self.reduce_s

    @property
    def peak_bytes(self) -> int:
        """The largest worker's memory."""
        return max(rank.peak_bytes for rank in self.ranks)

    @property
    def fits(self) -> bool:
        """Whether every worker's GPU has room for it, where one is meant and is here."""
        have = self.machine.device_bytes
        return have is None or all(rank.peak_device_bytes <= have for rank in self.ranks)

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for json.dump."""
        ranks = [dataclasses.asdict(rank) | {"peak_bytes": rank.peak_bytes} for rank in self.ranks]
        layers = [dataclasses.asdict(layer) for layer in self.sent.layers]
        return {
            "name": self.name,
            "parts": self.parts,
            "config": self.config.to_json(),
            "machine": dataclasses.asdict(self.machine),
            "epoch_s": self.epoch_s,
            "reduce_s": self.reduce_s,
            "reduce_bytes": self.reduce_bytes,
            "peak_bytes": self.peak_bytes,
            "sent_bytes_per_epoch": self.sent.sent_bytes,
            "sent_feature_bytes": self.sent.feature_bytes,
            "sent_gradient_bytes": self.sent.gradient_bytes,
            "layers": layers,
            "per_rank": ranks,
        }


def plan(parts_dir: str | Path, config: TrainConfig, machine: Machine | None = None) -> RunPlan:
    """The cost of one run; `machine` is measured when not given.

    Raises:
        UserError: the folder is not one of parts, see `open_part`.
    """
    return plans(parts_dir, [config], machine)[0]


def plans(
    parts_dir: str | Path, configs: Sequence[TrainConfig], machine: Machine | None = None
) -> list[RunPlan]:
    """The costs of several runs on the same parts, whose adjacency is read once."""
    manifest = read_manifest(parts_dir)
    parts = [open_part(Path(parts_dir), index, verify=False) for index in range(manifest.parts)]
    rates = machine or Machine.measure(configs[0])
    found, known = [], None
    for config in configs:
        known = RunBytes(parts, config, known)
        found.append(_Costs(parts, config, known, rates).plan())
    return found


class _Costs:
    """The estimates of one configuration."""

    def __init__(self, parts: Sequence[Part], config: TrainConfig, sent: RunBytes, machine: Machine) -> None:
        self._parts, self._config, self._machine = parts, config, machine
        self._manifest = parts[0].manifest
        self._epoch = sent.epoch(STEADY_EPOCH)
        self._widths = config.widths(self._manifest.num_features, self._manifest.num_classes)
        self._number, self._row_number = config.number_bytes, config.row_number_bytes
        self._input_first = multiplies_input(self._manifest, config)
        self._sizes = PlannedSizes(parts, config, sent)
        manifest = self._manifest
        self._parameters = parameter_count(config, manifest.num_features, manifest.num_classes)

    def plan(self) -> RunPlan:
        parts, machine = len(self._parts), self._machine
        reduce_bytes = (self._parameters + 1) * self._number if parts > 1 else 0
        return RunPlan(
            config=self._config,
            name=self._manifest.name,
            parts=parts,
            ranks=tuple(self._rank(part) for part in self._parts),
            sent=self._epoch,
            reduce_bytes=reduce_bytes,
            reduce_s=2 * reduce_bytes / machine.link_bytes_per_s + (machine.latency_s if parts > 1 else 0),
            machine=machine,
        )

    def _rank(self, part: Part) -> RankPlan:
        layers = self._sizes.on(part)
        first = None if self._config.input_linear else self._density(part, layers[0])
        densities = [first, *[None] * (len(layers) - 1)]
        compute = sum(map(self._compute_s, range(len(layers)), layers, densities))
        compute += self._linear_s(layers)
        sent = [(la.feature_bytes[part.index], la.gradient_bytes[part.index]) for la in self._epoch.layers]
        received = [self._received(part.index, place) for place in range(len(self._epoch.layers))]
        memory = worker_bytes(layers, part, self._config, self._machine.base_bytes)
        on_gpu = self._config.device == "cuda" or self._machine.device_bytes is not None
        return RankPlan(
            rank=part.index,
            inner_rows=part.num_inner,
            halo_slots=part.num_halo,
            arcs_per_epoch=sum(self._arcs(layer) for layer in layers),
            sent_bytes=sum(map(sum, sent)),
            received_bytes=sum(map(sum, received)),
            compute_s=compute,
            exposed_s=self._exposed_s(layers, sent, received, compute),
            memory_bytes=memory,
            device_bytes=device_bytes(memory, self._manifest, self._config) if on_gpu else {},
        )

    def _arcs(self, layer: LayerSizes) -> int:
        """Arcs that a sum goes over, those of drawn slots alone."""
        return layer.inner_arcs + int(layer.halo_arcs * self._config.sampling_rate)

    def _density(self, part: Part, first: LayerSizes) -> float | None:
        """Share that is set of what layer 0 multiplies; None where that is dense."""
        density = density_of(part)
        return aggregate_density(density, first) if self._config.precompute else density

    def _compute_s(self, index: int, layer: LayerSizes, density: float | None) -> float:
        """Sums, products and elementwise passes of one graph layer, forward and backward.

        A product of sparse rows is a sum of a row of the weight for each entry, of which `density` are set.
        """
        config, machine = self._config, self._machine
        width_in, width_out = self._widths[index : index + 2]
        width, multiplied = sent_width(config, self._widths, index, input_first=self._input_first)
        input_layer = index == 0 and not config.input_linear
        fixed = index == 0 and config.precompute
        sums = 0 if fixed else 1 if input_layer and not multiplied else 2
        attention = 3 if config.model == "gat" else 1
        rows = layer.source if multiplied and config.model != "sage" else layer.destination
        weights = 2 if config.model == "sage" else 1
        products = 2 if input_layer else 3
        input_columns = width_in * (1 if density is None else density)
        passes = 2.5 * layer.destination * width_out + (layer.source * input_columns if input_layer else 0)
        products_s = (
            2 * width_in / machine.products_per_s
            if density is None
            else input_columns * self._number / machine.sum_bytes_per_s
        )
        return (
            attention * sums * self._arcs(layer) * width * self._row_number / machine.sum_bytes_per_s
            + products * weights * rows * width_out * products_s
            + passes * self._row_number / machine.pass_bytes_per_s
        )

    def _linear_s(self, layers: Sequence[LayerSizes]) -> float:
        """Products of the linear layers, of the one before the graph layers and of residuals."""
        config, widths = self._config, self._widths
        flops = 6 * layers[-1].destination * sum(a * b for a, b in config.linear_sizes(widths))
        flops += sum(
            6 * layer.destination * widths[index] * widths[index + 1]
            for index, layer in enumerate(layers)
            if config.skips_through_weight(widths, index)
        )
        if config.input_linear:
            flops += 4 * layers[0].source * self._manifest.num_features * config.hidden
        return flops / self._machine.products_per_s

    def _received(self, rank: int, place: int) -> tuple[int, int]:
        """Bytes of features and gradients that a rank receives in one layer; the mirror of what is sent."""
        layer = self._epoch.layers[place]
        feature_row = _per_row(layer.feature_bytes, layer.sent_rows)
        gradient_row = _per_row(layer.gradient_bytes, layer.received_rows)
        return round(layer.received_rows[rank] * feature_row), round(layer.sent_rows[rank] * gradient_row)

    def _exposed_s(
        self,
        layers: Sequence[LayerSizes],
        sent: Sequence[tuple[int, int]],
        received: Sequence[tuple[int, int]],
        compute: float,
    ) -> float:
        """Transfer that is not hidden: behind a layer's own work, or (pipeline) behind all computation."""
        machine, exposed, total = self._machine, 0.0, 0.0
        for place, layer in enumerate(self._epoch.layers):
            hidden = self._hidden_s(layer.layer, layers[layer.layer], layer.width)
            for out, back, hides in zip(sent[place], received[place], hidden, strict=True):
                transfer = max(out, back) / machine.link_bytes_per_s + machine.latency_s
                total += transfer
                exposed += max(0.0, transfer - hides)
        return max(0.0, total - compute) if self._config.pipeline else exposed

    def _hidden_s(self, index: int, layer: LayerSizes, width: int) -> tuple[float, float]:
        """What a layer computes while its rows fly, and while their gradients do: see nn/conv.py."""
        machine, config = self._machine, self._config
        width_in, width_out = self._widths[index : index + 2]
        _, multiplied = sent_width(config, self._widths, index, input_first=self._input_first)
        inner = layer.inner_arcs * width * self._row_number / machine.sum_bytes_per_s
        product = 2 * layer.destination * width_in * width_out / machine.products_per_s
        forward = 1 if config.model == "sage" else 0
        backward = {"sage": 2, "gcn": 0, "gat": 0}[config.model] + int(
            config.model != "gat" and not multiplied
        )
        return inner + forward * product, inner + backward * product


def _per_row(nbytes: Sequence[int], rows: Sequence[int]) -> float:
    return sum(nbytes) / max(1, sum(rows))
