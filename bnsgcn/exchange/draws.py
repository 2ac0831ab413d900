"""From an epoch's draw to what each layer sends and receives: rows, splits, scales, compacted halo blocks.

A `LayerDraw` is made from stored blocks by keeping the columns that were drawn: no sort, no rebuild.
Draws are pure functions of (seed, epoch), so a resumed run makes the same ones again.

    S boundary rows of a list   H halo slots   S' rows sent   R rows received
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.exchange import sampling
from bnsgcn.kernels import Block
from bnsgcn.local.boundary import BoolArray, HaloPlan, IntArray, as_index, kept_splits

FloatArray = npt.NDArray[np.float64]


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


class DrawSource(Protocol):
    """Gives a layer its draw of an epoch."""

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`."""
        ...


class FullDraws:
    """Every row, every epoch."""

    def __init__(self, world: World, plans: dict[int, HaloPlan], blocks: dict[int, Block]) -> None:
        self._full = {layer: full_draw(world, plans[layer], blocks[layer]) for layer in plans}

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`."""
        return dataclasses.replace(self._full[layer], epoch=epoch)


def full_draw(world: World, plan: HaloPlan, block: Block) -> LayerDraw:
    """All rows of a plan."""
    return LayerDraw(
        epoch=-1,
        send_rows=as_index(plan.send_rows, world.device),
        send_entries=torch.arange(plan.send_rows.size, device=world.device),
        send_splits=tuple(plan.send_splits.tolist()),
        recv_slots=torch.arange(plan.recv_part.size, device=world.device),
        recv_splits=tuple(plan.recv_splits.tolist()),
        scale=None,
        block=block,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How boundary rows are drawn; see `TrainConfig` for the fields' meaning."""

    rate: float
    seed: int
    per_layer: bool = False
    scaled: bool = True
    full_first_epoch: bool = False


class SampledDraws:
    """Draws at a rate below 1, from the base lists of `base` (the lowest layer that exchanges)."""

    def __init__(
        self,
        world: World,
        plans: dict[int, HaloPlan],
        blocks: dict[int, Block],
        how: Sampling,
        weights: tuple[list[FloatArray], list[FloatArray]] | None = None,
    ) -> None:
        """`weights`: importance of every base entry, (per reader, per owner); None = uniform draws."""
        self._world, self._plans, self._blocks, self._how = world, plans, blocks, how
        self._base = plans[min(plans)]
        self._full = FullDraws(world, plans, blocks)
        self._places = {layer: self._places_in_base(plan) for layer, plan in plans.items()}
        self._probabilities = (
            None
            if weights is None
            else tuple(
                [sampling.inclusion_probabilities(weight, how.rate) for weight in side] for side in weights
            )
        )
        self._made: dict[tuple[int, int], LayerDraw] = {}
        self._drawn: dict[tuple[int, int], tuple[BoolArray, FloatArray]] = {}

    def _places_in_base(self, plan: HaloPlan) -> tuple[IntArray, IntArray]:
        return (
            np.searchsorted(self._base.send_part, plan.send_part),
            np.searchsorted(self._base.recv_part, plan.recv_part),
        )

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`; made once, the draws of the last two epochs are kept."""
        if self._how.full_first_epoch and epoch == 0:
            return self._full.draw(layer, epoch)
        if (layer, epoch) not in self._made:
            for old in [key for key in self._made if key[1] < epoch - 1]:
                del self._made[old]
            self._drawn = {key: drawn for key, drawn in self._drawn.items() if key[1] == epoch}
            self._made[layer, epoch] = self._make(layer, epoch)
        return self._made[layer, epoch]

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
        plan, block, device = self._plans[layer], self._blocks[layer], self._world.device
        send_place, recv_place = self._places[layer]
        keep_sent, slot_scale = sent[send_place], scale[recv_place]
        kept = slot_scale > 0
        slots, entries = np.flatnonzero(kept), np.flatnonzero(keep_sent)
        weights = torch.from_numpy(slot_scale[slots]).to(device, torch.float64) if self._how.scaled else None
        return LayerDraw(
            epoch=epoch,
            send_rows=as_index(plan.send_rows[entries], device),
            send_entries=as_index(entries, device),
            send_splits=tuple(kept_splits(keep_sent, plan.send_splits).tolist()),
            recv_slots=as_index(slots, device),
            recv_splits=tuple(kept_splits(kept, plan.recv_splits).tolist()),
            scale=weights,
            block=keep_columns(block, slots),
        )


def keep_columns(block: Block, columns: IntArray) -> Block:
    """The block with only `columns` (ascending), renumbered in that order; one pass over the arcs."""
    place = np.full(block.csr.num_cols, -1, np.int32)
    place[columns] = np.arange(columns.size, dtype=np.int32)
    device = block.csr.device
    csr = block.kernels.compact(block.csr, torch.from_numpy(place).to(device), columns.size)
    return Block(csr, block.kernels.select_rows(block.transposed, as_index(columns, device)), block.kernels)
