"""From an epoch's draw to what each layer sends and receives: rows, splits, scales, compacted halo blocks.

A `LayerDraw` is made from stored blocks by keeping the columns that were drawn: no sort, no rebuild.
They are made on the host, and are on their way to the device while it computes the epoch before.
Draws are pure functions of (seed, epoch), so a resumed run makes the same ones again. Those below rate 1 are
from the base lists, which are those of the lowest layer that exchanges.

    S boundary rows of a list   H halo slots   S' rows sent   R rows received
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bnsgcn.config import ModelName
from bnsgcn.dist import World
from bnsgcn.exchange import sampling
from bnsgcn.exchange.importance import importance_weights
from bnsgcn.exchange.sampling import FloatArray
from bnsgcn.kernels import Block
from bnsgcn.local.blocks import Degrees, LayerBlocks
from bnsgcn.local.boundary import BoolArray, HaloPlan, IntArray, as_index, kept_splits

_HOST = torch.device("cpu")


@dataclasses.dataclass(frozen=True, eq=False)
class LayerDraw:
    """What one layer moves under one draw.

    send_rows: int64 [S'], rows to gather.   send_entries: int64 [S'], places in the layer's boundary list.
    recv_slots: int64 [R], places in the layer's halo slots.   scale: [R] or None (= 1).
    block: rows x R block over the received rows.   epoch: the epoch it belongs to.
    """

    epoch: int
    send_rows: Tensor
    send_entries: Tensor
    send_splits: tuple[int, ...]
    recv_slots: Tensor
    recv_splits: tuple[int, ...]
    scale: Tensor | None
    block: Block


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How boundary rows are drawn at a rate below 1; see `TrainConfig` for the fields' meaning.

    scaled: whether rows are scaled by one over their probability.   importance: of what model's sums the
    draws follow the weights, None = uniform.
    """

    rate: float
    seed: int
    per_layer: bool = False
    scaled: bool = True
    full_first_epoch: bool = False
    importance: ModelName | None = None


class DrawSource(Protocol):
    """Gives the layers that exchange their draws."""

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`."""
        ...

    def full(self, layer: int) -> LayerDraw:
        """All boundary rows and halo slots of the layer."""
        ...

    def begin(self, epoch: int) -> None:
        """Let `epoch` be the first one, whose draws may differ."""
        ...


def draw_source(
    world: World, layers: Mapping[int, LayerBlocks], degrees: tuple[Degrees, Degrees], how: Sampling | None
) -> DrawSource:
    """Who gives `layers`, those that exchange by their number, their draws: every row where `how` is None.

    `degrees` are those of the lowest of them. Collective.
    """
    if how is None or not layers:
        return FullDraws(world, layers)
    weights = None
    if how.importance is not None:
        weights = importance_weights(world, layers[min(layers)], degrees, how.importance)
    return SampledDraws(world, layers, how, weights)


class FullDraws:
    """Every row, every epoch."""

    def __init__(self, world: World, layers: Mapping[int, LayerBlocks]) -> None:
        self._full = {index: _full_draw(world, layer) for index, layer in layers.items()}

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`."""
        return dataclasses.replace(self._full[layer], epoch=epoch)

    def full(self, layer: int) -> LayerDraw:
        """All boundary rows and halo slots of the layer."""
        return self._full[layer]

    def begin(self, epoch: int) -> None:
        """No epoch's draws differ."""


def _full_draw(world: World, layer: LayerBlocks) -> LayerDraw:
    plan, device = layer.plan, world.device
    return LayerDraw(
        epoch=-1,
        send_rows=as_index(plan.send_rows, device),
        send_entries=torch.arange(plan.send_rows.size, device=device),
        send_splits=tuple(plan.send_splits.tolist()),
        recv_slots=torch.arange(plan.recv_part.size, device=device),
        recv_splits=tuple(plan.recv_splits.tolist()),
        scale=None,
        block=layer.halo,
    )


class SampledDraws:
    """Draws at a rate below 1."""

    def __init__(
        self,
        world: World,
        layers: Mapping[int, LayerBlocks],
        how: Sampling,
        weights: tuple[list[FloatArray], list[FloatArray]] | None = None,
    ) -> None:
        """`weights`: importance of every base entry, (per reader, per owner); None = uniform draws."""
        self._world, self._layers, self._how = world, layers, how
        self._base = layers[min(layers)].plan
        self._full = FullDraws(world, layers)
        self._places = {index: self._places_in_base(layer.plan) for index, layer in layers.items()}
        self._probabilities = (
            None
            if weights is None
            else tuple(
                [sampling.inclusion_probabilities(weight, how.rate) for weight in side] for side in weights
            )
        )
        self._made: dict[tuple[int, int], LayerDraw] = {}
        self._drawn: dict[tuple[int, int], tuple[BoolArray, FloatArray]] = {}
        self._first = 0

    def begin(self, epoch: int) -> None:
        """Let `epoch` be the first one."""
        self._first = epoch

    def _places_in_base(self, plan: HaloPlan) -> tuple[IntArray, IntArray]:
        return (
            np.searchsorted(self._base.send_part, plan.send_part),
            np.searchsorted(self._base.recv_part, plan.recv_part),
        )

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`; made once, the draws of the last two epochs are kept."""
        if self._how.full_first_epoch and epoch == self._first:
            return self._full.draw(layer, epoch)
        if (layer, epoch) not in self._made:
            for old in [key for key in self._made if key[1] < epoch - 1]:
                del self._made[old]
            self._drawn = {key: drawn for key, drawn in self._drawn.items() if key[1] == epoch}
            self._made[layer, epoch] = self._make(layer, epoch)
        return self._made[layer, epoch]

    def full(self, layer: int) -> LayerDraw:
        """All boundary rows and halo slots of the layer."""
        return self._full.full(layer)

    def _base_draw(self, layer: int, epoch: int) -> tuple[BoolArray, FloatArray]:
        """(whether each base boundary entry is sent [S], scale of each base halo slot, 0 = not drawn [H])."""
        key = (layer if self._how.per_layer else sampling.EVERY_LAYER, epoch)
        if key not in self._drawn:
            sends = self._side(key[0], epoch, self._base.send_splits, sending=True)
            receives = self._side(key[0], epoch, self._base.recv_splits, sending=False)
            self._drawn[key] = (sends > 0, receives)
        return self._drawn[key]

    def _side(self, layer: int, epoch: int, splits: IntArray, *, sending: bool) -> FloatArray:
        scale = np.zeros(int(splits.sum()))
        start = 0
        for peer, rows in enumerate(splits.tolist()):
            if rows:
                drawn = self._list_draw(layer, epoch, peer, rows, sending)
                scale[start + drawn.chosen] = drawn.scale
            start += rows
        return scale

    def _list_draw(self, layer: int, epoch: int, peer: int, rows: int, sending: bool) -> sampling.ListDraw:
        sender, reader = (self._world.rank, peer) if sending else (peer, self._world.rank)
        seed, rate = self._how.seed, self._how.rate
        if self._probabilities is None:
            return sampling.draw_uniform(
                seed=seed, epoch=epoch, sender=sender, reader=reader, rows=rows, rate=rate, layer=layer
            )
        probability = self._probabilities[0 if sending else 1][peer]
        return sampling.draw_systematic(
            probability, seed=seed, epoch=epoch, sender=sender, reader=reader, layer=layer
        )

    def _make(self, layer: int, epoch: int) -> LayerDraw:
        sent, scale = self._base_draw(layer, epoch)
        plan, upload = self._layers[layer].plan, self._world.upload
        send_place, recv_place = self._places[layer]
        keep_sent, slot_scale = sent[send_place], scale[recv_place]
        kept = slot_scale > 0
        slots, entries = np.flatnonzero(kept), np.flatnonzero(keep_sent)
        halo, kernels = self._layers[layer].halo_at_home, self._layers[layer].halo.kernels
        cut = _keep_columns(halo, slots)
        return LayerDraw(
            epoch=epoch,
            send_rows=upload(as_index(plan.send_rows[entries], _HOST)),
            send_entries=upload(as_index(entries, _HOST)),
            send_splits=tuple(kept_splits(keep_sent, plan.send_splits).tolist()),
            recv_slots=upload(as_index(slots, _HOST)),
            recv_splits=tuple(kept_splits(kept, plan.recv_splits).tolist()),
            scale=upload(torch.from_numpy(slot_scale[slots])) if self._how.scaled else None,
            block=Block(cut.csr.moved(upload), kernels, cut.transposed.moved(upload)),
        )


def _keep_columns(block: Block, columns: IntArray) -> Block:
    """A block of host memory with only `columns` (ascending), renumbered in that order; one pass over it."""
    place = np.full(block.csr.num_cols, -1, np.int32)
    place[columns] = np.arange(columns.size, dtype=np.int32)
    csr = block.kernels.compact(block.csr, torch.from_numpy(place), columns.size)
    return Block(csr, block.kernels, block.kernels.select_rows(block.transposed, as_index(columns, _HOST)))
