"""From a part to the hops that a model runs on: a list for training, one for evaluation, one for prediction.

They differ in view (all edges, or those between training nodes), in target rows and in policy; never in code.
Training may see less of the graph (inductive), sample it, or read it late; evaluation and prediction are
always exact and see all edges, on the same part.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.draws import DrawSource, FullDraws, full_draw
from bnsgcn.exchange.lane import Lane
from bnsgcn.exchange.policy import Policy, exact_policy, exchange_policy
from bnsgcn.exchange.source import draw_source
from bnsgcn.kernels import Block, Kernels
from bnsgcn.local.blocks import BlockBuilder, LayerBlocks, View, degrees, training_view, whole_view
from bnsgcn.local.boundary import BoolArray, HaloPlan, IntArray, as_index
from bnsgcn.nn.conv import Conv
from bnsgcn.nn.hop import Clock, Hop, Rows
from bnsgcn.record.sent_bytes import SentBytes
from bnsgcn.record.spans import Spans
from partition.errors import UserError
from partition.graph import TEST, TRAIN, VAL
from partition.store import Part


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """What all hops of a worker share."""

    world: World
    kernels: Kernels
    clock: Clock
    spans: Spans
    sent: SentBytes
    dtype: torch.dtype
    precision: torch.dtype | None = None


class HopSet:
    """The hops of one view and target set, and the input features of the lowest one's source rows."""

    def __init__(
        self, stage: Stage, view: View, builder: BlockBuilder, depth: int, targets: BoolArray
    ) -> None:
        """Collective; `targets` bool [I] are the rows whose logits are wanted."""
        self._stage, self._view = stage, view
        self.layers = builder.layers(depth, targets)
        in_degree, out_degree = degrees(stage.world, view)
        self.hops = [
            self._hop(index, layer, in_degree, out_degree) for index, layer in enumerate(self.layers)
        ]
        self.features = self._features(self.layers[0].source)
        self.lanes: list[Lane] = []

    def _hop(self, index: int, layer: LayerBlocks, in_degree: IntArray, out_degree: IntArray) -> Hop:
        stage, device = self._stage, self._stage.world.device
        place = layer.destination_place
        return Hop(
            index=index,
            src=self._rows(layer.source),
            dst=self._rows(layer.destination),
            dst_place=None if place is None else as_index(place, device),
            inner=layer.inner,
            lane=None,
            in_degree=torch.from_numpy(in_degree[layer.destination]).to(device, stage.dtype),
            out_degree=torch.from_numpy(out_degree[layer.source]).to(device, stage.dtype),
        )

    def _rows(self, rows: IntArray) -> Rows:
        stage = self._stage
        node_ids = as_index(self._view.part.node_ids[rows], stage.world.device)
        return Rows(node_ids, stage.clock, stage.world, stage.kernels, stage.precision)

    def _features(self, rows: IntArray) -> Tensor:
        """Features of inner rows; the memory map itself where nothing has to be chosen or converted."""
        features: npt.NDArray[np.float32] = self._view.part.features
        chosen = features if rows.size == features.shape[0] else features[rows]
        return torch.from_numpy(chosen).to(self._stage.world.device, self._stage.dtype)

    @property
    def world(self) -> World:
        """Who this worker is."""
        return self._stage.world

    @property
    def logits_rows(self) -> IntArray:
        """Inner rows of the part that the model's logits belong to, ascending."""
        return self.layers[-1].destination

    def precompute(self, conv: Conv, known: HopSet | None = None) -> None:
        """Aggregate the input features once; layer 0 sends nothing from then on. Collective.

        `known`: another set of the same view whose aggregate is taken over where the rows are the same.
        """
        hop, layer = self.hops[0], self.layers[0]
        mine = known is not None and np.array_equal(known.layers[0].destination, layer.destination)
        shared = self._stage.world.all_reduce(
            torch.tensor([int(mine)], device=self._stage.world.device), "min"
        )
        if known is not None and bool(shared):
            self.hops[0], self.features = known.hops[0], known.features
            return
        plans, blocks = {0: layer.plan}, {0: layer.halo}
        lane = self._lane(0, FullDraws(self._stage.world, plans, blocks), exact_policy(self._stage.kernels))
        with torch.no_grad():
            aggregate = conv.aggregate(dataclasses.replace(hop, lane=lane), self.features)
            if layer.destination_place is not None:
                self.features = self._features(layer.destination)
        out_degree = hop.out_degree if hop.dst_place is None else hop.out_degree[hop.dst_place]
        self.hops[0] = dataclasses.replace(
            hop, src=hop.dst, dst_place=None, out_degree=out_degree, precomputed=aggregate
        )

    def connect(self, policy: Policy, draws: DrawSource | None = None) -> None:
        """Give every layer that exchanges its lane; `draws` defaults to every row."""
        if self._stage.world.size == 1:
            return
        exchanging = self.exchanging
        if draws is None:
            draws = FullDraws(self._stage.world, self.plans, self.halo_blocks)
        for index in exchanging:
            lane = self._lane(index, draws, policy)
            self.hops[index] = dataclasses.replace(self.hops[index], lane=lane)
            self.lanes.append(lane)

    @property
    def exchanging(self) -> list[int]:
        """Layers whose input travels: all, but a precomputed one."""
        return [hop.index for hop in self.hops if hop.precomputed is None]

    @property
    def plans(self) -> dict[int, HaloPlan]:
        """Lists of the layers that exchange."""
        return {index: self.layers[index].plan for index in self.exchanging}

    @property
    def halo_blocks(self) -> dict[int, Block]:
        """Whole halo blocks of the layers that exchange."""
        return {index: self.layers[index].halo for index in self.exchanging}

    @property
    def base_degrees(self) -> tuple[Tensor, Tensor]:
        """In-degrees of the rows and out-degrees of the source rows of the lowest layer that exchanges."""
        hop = self.hops[min(self.exchanging, default=0)]
        return hop.in_degree, hop.out_degree

    def _lane(self, index: int, draws: DrawSource, policy: Policy) -> Lane:
        stage, layer = self._stage, self.layers[index]
        return Lane(
            index,
            world=stage.world,
            kernels=stage.kernels,
            full=full_draw(stage.world, layer.plan, layer.halo),
            draws=draws,
            policy=policy,
            spans=stage.spans,
            sent=stage.sent,
        )

    def begin(self, epoch: int) -> None:
        """Set the epoch of everything that depends on it."""
        self._stage.clock.epoch = epoch
        for lane in self.lanes:
            lane.epoch = epoch

    def watch(self, probing: bool) -> None:
        """Have the lowest layer that exchanges watched by a probe in the next epoch, or not."""
        for lane in self.lanes[:1]:
            lane.probing, lane.probe = probing, None

    def drain(self) -> None:
        """Wait for everything in flight."""
        for lane in self.lanes:
            lane.drain()


class HopSets:
    """Builds each set once, when it is first asked for. Collective: all ranks ask in the same order."""

    def __init__(self, stage: Stage, part: Part, model: torch.nn.Module, config: TrainConfig) -> None:
        """ValueError when the model has no convolution, or --precompute does not fit its first one."""
        self._stage, self._part, self._config = stage, part, config
        self.convs = [module for module in model.modules() if isinstance(module, Conv)]
        if not self.convs:
            raise UserError("the model has 0 convolutions of bnsgcn.nn, at least 1 is needed")
        if config.precompute and not self.convs[0].precomputable:
            raise UserError(f"--precompute does not work with {type(self.convs[0]).__name__}; leave it out")
        # Statistics of a batch norm look at rows that cannot reach the loss otherwise.
        whole_rows = any(getattr(module, "needs_all_rows", False) for module in model.modules())
        self._prune = config.prune and not whole_rows
        self._whole = whole_view(part, self_loops=config.self_loops)
        self._exact_builder = BlockBuilder(stage.world, self._whole, stage.kernels, prune=True)

    def labelled(self, *splits: int) -> BoolArray:
        """bool [I]: rows of the given splits that have a label."""
        chosen = np.isin(self._part.split, splits)
        return chosen & (self._part.labels >= 0) if self._part.labels.ndim == 1 else chosen

    @functools.cached_property
    def training(self) -> HopSet:
        """For the training nodes' logits, with the options' view, draws and policy."""
        stage, config = self._stage, self._config
        view = training_view(self._whole) if config.inductive else self._whole
        builder = self._exact_builder
        if config.inductive or not self._prune:
            builder = BlockBuilder(stage.world, view, stage.kernels, prune=self._prune)
        hops = self._hop_set(view, builder, self.labelled(TRAIN), None)
        draws = draw_source(config, stage.world, hops.plans, hops.halo_blocks, hops.base_degrees)
        hops.connect(exchange_policy(config, stage.kernels), draws)
        return hops

    @functools.cached_property
    def evaluation(self) -> HopSet:
        """For validation and test nodes' logits, exact."""
        return self.exact(self.labelled(VAL, TEST))

    def exact(self, targets: BoolArray) -> HopSet:
        """Over all edges, exact, for the logits of `targets` bool [I]."""
        known = None if self._config.inductive else self.training
        hops = self._hop_set(self._whole, self._exact_builder, targets, known)
        hops.connect(exact_policy(self._stage.kernels))
        return hops

    def _hop_set(self, view: View, builder: BlockBuilder, targets: BoolArray, known: HopSet | None) -> HopSet:
        hops = HopSet(self._stage, view, builder, len(self.convs), targets)
        if self._config.precompute:
            hops.precompute(self.convs[0], known)
        return hops
