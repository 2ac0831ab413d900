"""Bytes that every rank sends in an epoch, from the parts on disk and the options alone, without workers.

Written from the definition of the exchange, apart from the runtime and its counters, so that each checks the
other (a test compares them exactly). What it shares with the runtime is pure functions, the draw and what a
slot weighs in it, and the share of rows above which nothing is pruned.

    N nodes, by global id   I inner rows of a part   H halo slots of a part   P parts   L graph layers
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnsgcn.config import PRUNE_BELOW, TrainConfig, WireDtype
from bnsgcn.exchange import sampling
from partition.labels import TRAIN
from partition.manifest import CSR
from partition.store import Manifest, Part

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerBytes:
    """What one layer's exchange sends in one epoch; tuples have one entry a rank, [P]."""

    layer: int
    width: int
    """Columns of the rows that travel."""
    sent_rows: tuple[int, ...]
    received_rows: tuple[int, ...]
    feature_bytes: tuple[int, ...]
    gradient_bytes: tuple[int, ...]
    pairs: tuple[list[list[int]], list[list[int]]] = dataclasses.field(compare=False, repr=False)
    """Bytes of features, and of gradients, from each rank to each, [P senders, P readers]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochBytes:
    """Payload of one epoch."""

    epoch: int
    layers: tuple[LayerBytes, ...]

    def per_rank(self) -> list[tuple[int, int]]:
        """(feature bytes, gradient bytes) that every rank sends."""
        if not self.layers:
            return []
        ranks = range(len(self.layers[0].feature_bytes))
        return [
            (
                sum(la.feature_bytes[rank] for la in self.layers),
                sum(la.gradient_bytes[rank] for la in self.layers),
            )
            for rank in ranks
        ]

    @property
    def feature_bytes(self) -> int:
        """Of all ranks."""
        return sum(sum(layer.feature_bytes) for layer in self.layers)

    @property
    def gradient_bytes(self) -> int:
        """Of all ranks."""
        return sum(sum(layer.gradient_bytes) for layer in self.layers)

    @property
    def sent_bytes(self) -> int:
        """Of all ranks, both directions."""
        return self.feature_bytes + self.gradient_bytes


@dataclasses.dataclass(frozen=True, eq=False)
class LayerRows:
    """Which rows one layer needs: bool [N] by global id, and each part's halo slots, ascending int64 [H]."""

    destination: BoolArray
    source: BoolArray
    slots: list[IntArray]


def has_sparse_input(manifest: Manifest) -> bool:
    """Whether layer 0 multiplies sparse rows."""
    return manifest.feature_storage == CSR


def stays_on_the_host(manifest: Manifest, config: TrainConfig) -> bool:
    """Whether layer 0 multiplies rows of host memory on a GPU (--features host)."""
    if config.features == "device" or has_sparse_input(manifest) or config.device == "cpu":
        return False
    from bnsgcn.device.place import means_cuda

    return means_cuda(config.device)


def multiplies_input(manifest: Manifest, config: TrainConfig) -> bool:
    """Whether layer 0 multiplies before it sends, however wide the result is."""
    rows = has_sparse_input(manifest) or stays_on_the_host(manifest, config)
    return rows and not config.input_linear


def sums_weights(manifest: Manifest, config: TrainConfig) -> bool:
    """Whether sums over neighbours weigh arcs; attention has no use for the weights of a graph."""
    return manifest.weighted and config.model != "gat"


def sent_width(
    config: TrainConfig, widths: Sequence[int], layer: int, *, input_first: bool
) -> tuple[int, bool]:
    """Columns that travel in a layer, and whether they were multiplied by the weight before.

    `input_first`: of `multiplies_input`.
    """
    width_in, width_out = widths[layer], widths[layer + 1]
    if config.model == "gat":
        if layer == config.layers - 1:
            width_out *= config.heads
        first = width_out <= width_in
    else:
        first = width_out < width_in
    return (width_out, True) if first or (input_first and layer == 0) else (width_in, False)


def row_bytes(dtype: WireDtype, width: int, config: TrainConfig) -> int:
    """Bytes of a row on the wire; fp16 carries an exponent, int8 and int4 a float32 step."""
    sizes = {"fp32": config.row_number_bytes * width, "bf16": 2 * width, "fp16": 2 * width + 2}
    return (sizes | {"int8": width + 4, "int4": (width + 1) // 2 + 4})[dtype]


class RunBytes:
    """What any epoch of a training run sends."""

    def __init__(self, parts: Sequence[Part], config: TrainConfig, known: RunBytes | None = None) -> None:
        """`parts`: all parts of one folder, in order; their adjacency is read once.

        `known`: the bytes of the same model and parts under other options, whose rows are taken over.
        """
        self._parts, self._config = parts, config
        self._manifest = parts[0].manifest
        self._offset = self._manifest.part_offset
        self._widths = config.widths(self._manifest.num_features, self._manifest.num_classes)
        self.rows: list[LayerRows] = self._pruned() if known is None else known.rows
        depth = config.layers - config.linear_layers
        self.exchanging = range(1 if config.precompute else 0, depth) if len(parts) > 1 else range(0)
        self._probability = self._probabilities() if self._samples and self.exchanging else None

    @property
    def _weighted(self) -> bool:
        return sums_weights(self._manifest, self._config)

    @property
    def _samples(self) -> bool:
        return self._config.sampling_rate < 1

    def epoch(self, epoch: int) -> EpochBytes:
        """What is sent in epoch `epoch` of training, evaluations left out."""
        known: dict[tuple[object, ...], LayerBytes] = {}
        return EpochBytes(
            epoch=epoch, layers=tuple(self._layer(layer, epoch, known) for layer in self.exchanging)
        )

    def boundary(self, layer: int) -> IntArray:
        """Rows that each owner has for each reader when none is left out, [P owners, P readers]."""
        slots = self.rows[layer].slots
        return np.stack([self._per_owner(part, slots[part.index]) for part in self._parts], axis=1)

    def _layer(self, layer: int, epoch: int, known: dict[tuple[object, ...], LayerBytes]) -> LayerBytes:
        """What one layer sends; `known` has what layers of the same rows and width send."""
        config = self._config
        first = multiplies_input(self._manifest, config)
        width, multiplied = sent_width(config, self._widths, layer, input_first=first)
        key = (id(self.rows[layer]), width, multiplied, layer == 0, config.draw_per_layer and layer)
        if key not in known:
            known[key] = self._sent(layer, epoch, width, multiplied)
        return dataclasses.replace(known[key], layer=layer)

    def _sent(self, layer: int, epoch: int, width: int, multiplied: bool) -> LayerBytes:
        config = self._config
        features = self._moved(layer, epoch)
        gradients = self._moved(layer, epoch - 1 if config.pipeline and epoch > 0 else epoch)
        if layer == 0 and not multiplied and not config.input_linear:
            gradients = np.zeros_like(gradients)  # nobody wants the gradient of the input features
        feature_row = row_bytes(config.wire_dtype, width, config)
        gradient_row = row_bytes(config.gradient_wire_dtype or config.wire_dtype, width, config)
        forward, backward = features * feature_row, gradients.T * gradient_row
        return LayerBytes(
            layer=layer,
            width=width,
            sent_rows=_ints(features.sum(1)),
            received_rows=_ints(features.sum(0)),
            feature_bytes=_ints(forward.sum(1)),
            gradient_bytes=_ints(backward.sum(1)),
            pairs=(forward.tolist(), backward.tolist()),
        )

    def _moved(self, layer: int, draw_epoch: int) -> IntArray:
        """Rows that each owner sends to each reader under one draw, [P owners, P readers]."""
        return np.stack(
            [self._per_owner(part, self._drawn(part.index, layer, draw_epoch)) for part in self._parts],
            axis=1,
        )

    def _per_owner(self, part: Part, slots: IntArray) -> IntArray:
        return np.diff(np.searchsorted(slots, part.halo_splits)).astype(np.int64)

    def _drawn(self, reader: int, layer: int, epoch: int) -> IntArray:
        """The halo slots of `reader` that a layer receives under the draw of `epoch`."""
        config, slots = self._config, self.rows[layer].slots[reader]
        cache_fills = config.halo_cache and config.first_epoch == "exact" and epoch == 0
        if not self._samples or cache_fills:
            return slots
        base = self.rows[self.exchanging[0]].slots[reader]
        ends = np.searchsorted(base, self._parts[reader].halo_splits)
        key = layer if config.draw_per_layer else sampling.EVERY_LAYER
        drawn = [
            start + self._list_draw(owner, reader, key, epoch, int(end - start))
            for owner, (start, end) in enumerate(itertools.pairwise(ends))
        ]
        return np.intersect1d(slots, base[np.concatenate(drawn)], assume_unique=True)

    def _list_draw(self, owner: int, reader: int, layer: int, epoch: int, rows: int) -> IntArray:
        who: dict[str, Any] = {
            "seed": self._config.seed,
            "epoch": epoch,
            "sender": owner,
            "reader": reader,
            "layer": layer,
        }
        if self._probability is None or rows == 0:
            return sampling.draw_uniform(rows=rows, rate=self._config.sampling_rate, **who).chosen
        return sampling.draw_systematic(self._probability[owner, reader], **who).chosen

    # ---- which rows are needed ----

    def _pruned(self) -> list[LayerRows]:
        config, view = self._config, self.view
        prune = config.prune and not (config.norm == "batch" and config.layers > 1)
        wanted = np.concatenate([_labelled_for_training(part) for part in self._parts])
        found: list[LayerRows] = []
        for _ in range(config.layers - config.linear_layers):
            destination = self._rounded(wanted, view) if prune else view
            if found and np.array_equal(destination, found[-1].destination):
                found.append(found[-1])  # the layers below need what this one needs
            else:
                found.append(self._layer_rows(destination, view, prune=prune))
            wanted = found[-1].source
        return found[::-1]

    @functools.cached_property
    def view(self) -> BoolArray:
        """The nodes that training sees, [N]."""
        split = np.concatenate([part.split for part in self._parts])
        return split == TRAIN if self._config.inductive else np.ones(split.size, bool)

    def _rounded(self, wanted: BoolArray, view: BoolArray) -> BoolArray:
        """Parts that need nearly all of their rows compute all."""
        rounded = wanted.copy()
        for start, end in itertools.pairwise(self._offset):
            if wanted[start:end].sum() > PRUNE_BELOW * view[start:end].sum():
                rounded[start:end] = view[start:end]
        return rounded

    def _layer_rows(self, destination: BoolArray, view: BoolArray, *, prune: bool) -> LayerRows:
        source, slots = destination.copy(), []
        for part in self._parts:
            first = self._offset[part.index]
            mine = destination[first : first + part.num_inner]
            inner = first + part.inner_indices[np.repeat(mine, np.diff(part.inner_indptr))]
            read = np.unique(part.halo_indices[np.repeat(mine, np.diff(part.halo_indptr))]).astype(np.int64)
            read = read[view[part.halo_ids[read]]]
            slots.append(read)
            source[inner[view[inner]]] = True
            source[part.halo_ids[read]] = True
        return LayerRows(destination, self._rounded(source, view) if prune else view, slots)

    # ---- importance draws ----

    def _probabilities(self) -> dict[tuple[int, int], FloatArray] | None:
        """Inclusion probabilities of every (owner, reader)'s base list; None for uniform draws."""
        config = self._config
        if config.sampler == "uniform":
            return None
        in_degree, out_degree = self._degrees()
        base, found = self.rows[self.exchanging[0]], {}
        for part in self._parts:
            target = self._offset[part.index] + np.repeat(
                np.arange(part.num_inner), np.diff(part.halo_indptr)
            )
            kept = base.destination[target]
            arcs = part.halo_indices[kept], in_degree[target[kept]]
            weighs = part.halo_weights if self._weighted else None
            weight = sampling.slot_importance(
                config.model, *arcs, out_degree[part.halo_ids], None if weighs is None else weighs[kept]
            )
            slots = base.slots[part.index]
            ends = np.searchsorted(slots, part.halo_splits)
            for owner, (start, end) in enumerate(itertools.pairwise(ends)):
                found[owner, part.index] = sampling.inclusion_probabilities(
                    weight[slots[start:end]], config.sampling_rate
                )
        return found

    def _degrees(self) -> tuple[FloatArray, FloatArray]:
        """(in-degree, out-degree) [N] in the training view, weighted where sums are, self loops included."""
        view = self.view
        in_degree, out_degree = (view * np.float64(self._config.self_loops) for _ in range(2))
        of_blocks = (weights for part in self._parts for weights in (part.inner_weights, part.halo_weights))
        for (rows, columns), weights in zip(self._arcs(), of_blocks, strict=True):
            kept = view[rows] & view[columns]
            weighs = weights[kept] if self._weighted and weights is not None else None
            in_degree += np.bincount(rows[kept], weighs, view.size)
            out_degree += np.bincount(columns[kept], weighs, view.size)
        return in_degree, out_degree

    def _arcs(self) -> Iterator[tuple[IntArray, IntArray]]:
        """(target, source) of all arcs by global id, a part's block at a time."""
        for part in self._parts:
            first = self._offset[part.index]
            rows = first + np.arange(part.num_inner)
            yield np.repeat(rows, np.diff(part.inner_indptr)), first + part.inner_indices
            yield np.repeat(rows, np.diff(part.halo_indptr)), part.halo_ids[part.halo_indices]


def _labelled_for_training(part: Part) -> BoolArray:
    train = np.asarray(part.split == TRAIN)
    return train & (part.labels >= 0) if part.labels.ndim == 1 else train


def _ints(values: IntArray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
