"""The blocks of every layer of a model: inner and halo adjacency, pruned to the rows that are needed.

From a part and a set of target rows (the rows whose logits are wanted) back to the input: a layer computes
its *destination* rows from its *source* rows, and the source rows of a layer are the destination rows of
the layer below. A source row is a destination row, a neighbour of one, or a row that a peer asked for.
Everything is built once; the two blocks are never concatenated. Where few rows are wanted, the arcs of others
are not even looked at.

    I inner rows of the part   D destination rows   C source rows   H halo slots of the layer
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
import torch

from bnsgcn.config import PRUNE_BELOW
from bnsgcn.dist import World
from bnsgcn.kernels import Block, Csr, Kernels, select
from bnsgcn.kernels.csr import id_dtype
from bnsgcn.local.boundary import BoolArray, HaloPlan, IntArray, plan_halo, to_owners
from partition.labels import TRAIN
from partition.store import Part

Degrees = npt.NDArray[np.int64] | npt.NDArray[np.float64]
"""Counts of arcs, or sums of their weights."""


@dataclasses.dataclass(frozen=True, eq=False)
class LayerBlocks:
    """One layer: out[D] = inner [D x C] h[C] + halo [D x H] received[H].

    source, destination: int64 [C], [D], inner rows of the part, ascending.   destination_place: int64 [D],
    places of the destination rows among the source rows; None where the two are the same rows.
    halo_at_home: the halo block in host memory, that draws are cut from; on CPU the halo block itself.
    """

    source: IntArray
    destination: IntArray
    destination_place: IntArray | None
    inner: Block
    halo: Block
    halo_at_home: Block
    plan: HaloPlan

    def prepare_backward(self) -> None:
        """Make the transposes now, not in the worst moment of the first epoch."""
        for block in (self.inner, self.halo):
            _ = block.transposed


@dataclasses.dataclass(frozen=True, eq=False)
class InnerArcs:
    """Arcs among the inner rows of a part as they are stored, and whether each row is its own neighbour, too.

    The weight of such a self loop is 1.
    """

    stored: Csr
    self_loops: bool

    @functools.cached_property
    def whole(self) -> Csr:
        """Of all rows, self loops included."""
        return self._looped(self.stored, np.arange(self.stored.num_rows))

    def of_rows(self, rows: IntArray, kernels: Kernels) -> Csr:
        """Of the given rows, self loops included."""
        if rows.size == self.stored.num_rows:
            return self.whole
        return self._looped(_rows_of(self.stored, rows, kernels), rows)

    def _looped(self, csr: Csr, rows: IntArray) -> Csr:
        if not self.self_loops:
            return csr
        indptr, indices = csr.indptr.numpy(), csr.indices.numpy()
        weights = None if csr.weights is None else np.insert(csr.weights.numpy(), indptr[:-1], np.float32(1))
        looped = np.insert(indices, indptr[:-1], rows.astype(indices.dtype))
        return Csr.from_numpy(indptr + np.arange(rows.size + 1), looped, csr.num_cols, weights)


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Which part of the graph counts: all of it, or (inductive) what lies between training nodes.

    rows: bool [I], inner rows that exist in the view.   slots: bool [H of the part].
    inner: adjacency among inner rows.   halo: the part's halo adjacency.   Both have the part's edge weights
    where the view is weighted.
    """

    part: Part
    rows: BoolArray
    slots: BoolArray
    inner: InnerArcs
    halo: Csr


def whole_view(part: Part, *, self_loops: bool, weighted: bool = True) -> View:
    """All nodes and edges of the part; with its edge weights, where `weighted` and there are any."""
    everything = np.ones(part.split.size, bool), np.ones(part.halo_ids.size, bool)
    inner = _stored(part.inner_indptr, part.inner_indices, part.num_inner, part.inner_weights, weighted)
    halo = _stored(part.halo_indptr, part.halo_indices, part.num_halo, part.halo_weights, weighted)
    return View(part, *everything, InnerArcs(inner, self_loops), halo)


def training_view(whole: View) -> View:
    """Training nodes and the edges between them, derived from the same part (inductive training)."""
    part = whole.part
    return dataclasses.replace(whole, rows=part.split == TRAIN, slots=part.halo_split == TRAIN)


def _stored(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    columns: int,
    weights: npt.NDArray[np.float32] | None,
    weighted: bool,
) -> Csr:
    """Arrays of a part, which was checked when it was opened, as a block."""
    kept = None if weights is None or not weighted else torch.from_numpy(np.asarray(weights))
    dtype = id_dtype(indices.size, columns)
    splits, entries = (torch.from_numpy(np.asarray(piece)).to(dtype) for piece in (indptr, indices))
    return Csr(splits, entries, indptr.size - 1, columns, kept)


class BlockBuilder:
    """Builds the layers of one view; shares the unpruned blocks between layers and between calls."""

    def __init__(self, world: World, view: View, kernels: Kernels, *, prune: bool) -> None:
        self._world, self._view, self._kernels, self._prune = world, view, kernels, prune
        self._every_row = np.flatnonzero(view.rows)
        self._kernels_at_home = kernels if world.device.type == "cpu" else select()
        self._whole: tuple[Block, dict[bytes, tuple[Block, Block]]] | None = None

    def layers(self, depth: int, targets: BoolArray) -> list[LayerBlocks]:
        """The blocks of `depth` layers whose last one computes `targets` (bool [I]), lowest first.

        Collective: every rank calls it in the same order. Unpruned, a layer computes all rows of the view.
        """
        view = self._view
        assert not (targets & ~view.rows).any(), "a target row is outside the view"
        destination = self._round_up(targets) if self._prune else view.rows
        found: list[LayerBlocks] = []
        for _ in range(depth):
            found.append(self._layer(destination))
            destination = np.zeros(view.rows.size, bool)
            destination[found[-1].source] = True
        return found[::-1]

    def _round_up(self, rows: BoolArray) -> BoolArray:
        return self._view.rows if rows.sum() > PRUNE_BELOW * self._every_row.size else rows

    def _layer(self, destination: BoolArray) -> LayerBlocks:
        view, part = self._view, self._view.part
        chosen = np.flatnonzero(destination)
        kernels = self._kernels_at_home
        inner, halo = view.inner.of_rows(chosen, kernels), _rows_of(view.halo, chosen, kernels)
        slots = _marked(halo, view.slots.size) & view.slots
        asked = to_owners(self._world, part, slots.astype(np.uint8)).astype(bool)
        source = destination | (_marked(inner, view.rows.size) & view.rows)
        source[part.boundary_rows[asked]] = True
        source = self._round_up(source) if self._prune else view.rows
        rows = np.flatnonzero(source)
        place = _places(rows, view.rows.size)
        same = rows.size == chosen.size
        inner_block, halo_blocks = self._blocks(inner, halo, place, rows.size, np.flatnonzero(slots), same)
        return LayerBlocks(
            source=rows,
            destination=chosen,
            destination_place=None if same else place[chosen],
            inner=inner_block,
            halo=halo_blocks[0],
            halo_at_home=halo_blocks[1],
            plan=plan_halo(part, place, asked, np.flatnonzero(slots)),
        )

    def _blocks(
        self, inner: Csr, halo: Csr, place: IntArray, sources: int, slots: IntArray, same: bool
    ) -> tuple[Block, tuple[Block, Block]]:
        """The layer's inner block, and its halo block here and at home; shared by layers over all rows."""
        whole = same and sources == self._every_row.size
        if whole and self._whole is not None and slots.tobytes() in self._whole[1]:
            return self._whole[0], self._whole[1][slots.tobytes()]
        halo_at_home = self._block(halo, _places(slots, self._view.slots.size), slots.size)
        halo_blocks = self._moved(halo_at_home), halo_at_home
        if whole and self._whole is not None:
            self._whole[1][slots.tobytes()] = halo_blocks
            return self._whole[0], halo_blocks
        symmetric = same and not self._view.part.manifest.directed
        inner_block = self._moved(self._block(inner, place, sources, symmetric=symmetric))
        if whole:
            self._whole = (inner_block, {slots.tobytes(): halo_blocks})
        return inner_block, halo_blocks

    def _block(self, csr: Csr, place: IntArray, columns: int, *, symmetric: bool = False) -> Block:
        """The block at home, columns renamed to their place; arcs whose column has none (-1) are dropped."""
        kernels = self._kernels_at_home
        if columns < csr.num_cols:
            csr = kernels.compact(csr, torch.from_numpy(place.astype(np.int32)), columns)
        return Block(csr, kernels, csr if symmetric else None)

    def _moved(self, block: Block) -> Block:
        """A block of host memory on the device; the block itself where it is there."""
        device = self._world.device
        if device.type == "cpu":
            return block
        csr = block.csr.to(device)
        known = csr if block.known is block.csr else block.known
        return Block(csr, self._kernels, None if known is None else known.to(device))


def _rows_of(csr: Csr, rows: IntArray, kernels: Kernels) -> Csr:
    return csr if rows.size == csr.num_rows else kernels.select_rows(csr, torch.from_numpy(rows))


def _marked(csr: Csr, columns: int) -> BoolArray:
    """Which columns have an arc: bool [columns]."""
    marks = np.zeros(columns, bool)
    marks[csr.indices.numpy()] = True
    return marks


def _places(chosen: IntArray, total: int) -> IntArray:
    """Place of each of `total` items in the ascending list `chosen`, -1 = not in it."""
    place = np.full(total, -1, np.int64)
    place[chosen] = np.arange(chosen.size)
    return place


def degrees(world: World, view: View) -> tuple[Degrees, Degrees]:
    """(in-degree, out-degree) [I] of inner rows in the view over the *whole* graph, self loops included.

    They are sums of weights where the view is weighted. Rows outside the view have degree 0. Collective.
    """
    part, loops = view.part, view.rows * int(view.inner.self_loops)
    if view.halo.weights is None and view.rows.all() and view.slots.all():
        return part.in_degree.astype(np.int64) + loops, part.out_degree.astype(np.int64) + loops
    into_inner, out_degree = _sums(view.inner.stored, view.rows, view.rows)
    into_halo, read_here = _sums(view.halo, view.rows, view.slots)
    np.add.at(out_degree, part.boundary_rows, to_owners(world, part, read_here))
    return into_inner + into_halo + loops, out_degree + loops


def _sums(csr: Csr, rows: BoolArray, columns: BoolArray) -> tuple[Degrees, Degrees]:
    """Arcs between `rows` [R] and `columns` [C], or their weights, by row and by column."""
    targets, sources = csr.row_ids().numpy(), csr.indices.numpy()
    kept = rows[targets] & columns[sources]
    weights = None if csr.weights is None else csr.weights.numpy()[kept]

    def counted(ends: IntArray, size: int) -> Degrees:
        found = np.bincount(ends, weights, size)
        return found if weights is None else found.astype(np.float64)  # NumPy gives integers for no arcs

    return counted(targets[kept], rows.size), counted(sources[kept], columns.size)
