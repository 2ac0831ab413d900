"""From a part to the hops that a model runs on: a list for training, one for evaluation, one for prediction.

They differ in view (all edges, or those between training nodes), in target rows and in policy; never in code.
Training may see less of the graph (inductive), sample it, or read it late; evaluation and prediction are
always exact and see all edges, on the same part.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.clock import Clock
from bnsgcn.exchange.draws import DrawSource, FullDraws, draw_source
from bnsgcn.exchange.lane import Lane
from bnsgcn.exchange.policy import Policy, exact_policy, exchange_policy
from bnsgcn.exchange.set_draws import set_draws
from bnsgcn.exchange.settings import Setting
from bnsgcn.kernels import Kernels
from bnsgcn.kernels.host_rows import HostRows
from bnsgcn.kernels.input_rows import Input
from bnsgcn.kernels.sparse_rows import SparseRows
from bnsgcn.local.blocks import BlockBuilder, Degrees, LayerBlocks, View, degrees, training_view, whole_view
from bnsgcn.local.boundary import BoolArray, IntArray, as_index
from bnsgcn.nn.conv import Conv
from bnsgcn.nn.hop import Hop, Rows
from bnsgcn.record.sent_bytes import SentBytes
from bnsgcn.record.spans import Spans
from bnsgcn.train.far_input import aggregate_far, on_the_host, stays_far
from bnsgcn.train.sparse_input import aggregate_sparse, chosen_rows
from partition.errors import UserError
from partition.labels import TEST, TRAIN, VAL
from partition.store import CsrFeatures, Part


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
    storage: torch.dtype | None = None
    """Number format in which rows are kept, None = that of what is computed, `dtype`."""
    lane: type[Lane] = Lane
    """What the layers' lanes are: those of a run that is profiled are marked in the trace."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What the user should hear of what was built."""
    whole: weakref.WeakValueDictionary[str, Any] = dataclasses.field(
        default_factory=weakref.WeakValueDictionary
    )
    """The features of all rows, for as long as a hop set has them: others have the same."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class HopSet:
    """The hops of one view and target set, and the input features of the lowest one's source rows.

    layers: the rows, blocks and lists that the hops were made from.
    """

    world: World
    clock: Clock
    layers: list[LayerBlocks]
    hops: list[Hop]
    features: Input
    policy: Policy
    draws: DrawSource | None = None
    """None without peers."""

    @property
    def lanes(self) -> list[Lane]:
        """Of the layers whose input travels, lowest first; none without peers."""
        return [hop.lane for hop in self.hops if hop.lane is not None]

    @property
    def logits_rows(self) -> IntArray:
        """Inner rows of the part that the model's logits belong to, ascending."""
        return self.layers[-1].destination

    def begin(self, epoch: int, *, watched: bool = False) -> None:
        """Start `epoch`; `watched`: with a probe on the lowest lane, for `telemetry` to tell of."""
        self.clock.epoch = epoch
        for lane in self.lanes:
            lane.turn(epoch)
        for lane in self.lanes[:1] if watched else ():
            lane.watch()

    def prepare(self, epoch: int) -> None:
        """Make the draws of a later epoch, where a device computes meanwhile."""
        if self.world.streams is not None:
            for lane in self.lanes:
                lane.prepare(epoch)

    def telemetry(self) -> dict[str, float]:
        """What the probe of this epoch saw; empty without one. Collective."""
        return self.lanes[0].telemetry() if self.lanes else {}

    def drain(self) -> None:
        """Wait for everything in flight."""
        for lane in self.lanes:
            lane.drain()


class _ViewHops:
    """Makes hop sets over one view."""

    def __init__(self, stage: Stage, view: View, *, prune: bool, sparse: bool, far: bool) -> None:
        """Collective. `sparse`: whether the model takes such rows.   `far`: whether rows stay on the host."""
        self._stage, self._part, self._sparse, self._far = stage, view.part, sparse, far
        self._builder = BlockBuilder(stage.world, view, stage.kernels, prune=prune)
        self._degrees = degrees(stage.world, view)

    def hop_set(
        self,
        depth: int,
        targets: BoolArray,
        policy: Policy,
        *,
        precompute: Conv | None = None,
        known: HopSet | None = None,
    ) -> HopSet:
        """The hops for the logits of `targets` bool [I]. Collective.

        Args:
            precompute: the convolution whose aggregate of the input is computed here and now, once.
            known: another set of the same view whose aggregate is taken over where the rows are the same.
        """
        world, layers = self._stage.world, self._builder.layers(depth, targets)
        draws: DrawSource | None = None
        hops = [self._hop(index, layer) for index, layer in enumerate(layers)]
        features, exchanging = self._features(layers[0].source), dict(enumerate(layers))
        if precompute is not None:
            hops[0], features = self._precomputed(precompute, hops[0], layers[0], features, known)
            del exchanging[0]
        if world.size > 1:
            base = layers[min(exchanging, default=0)]
            base_degrees = self._degrees[0][base.destination], self._degrees[1][base.source]
            draws = self._draws(exchanging, base_degrees, policy)
            for index in exchanging:
                hops[index] = dataclasses.replace(hops[index], lane=self._lane(index, draws, policy))
        return HopSet(
            world=world,
            clock=self._stage.clock,
            layers=layers,
            hops=hops,
            features=features,
            policy=policy,
            draws=draws,
        )

    def _draws(
        self, exchanging: Mapping[int, LayerBlocks], base_degrees: tuple[Degrees, Degrees], policy: Policy
    ) -> DrawSource:
        """Draws at the rate of the options, or at those of each epoch's setting, exact to begin with."""
        world, settings = self._stage.world, policy.settings
        if settings is None or not exchanging:
            return draw_source(world, exchanging, base_degrees, policy.sampling)
        assert policy.sampling is not None
        settings.put(0, Setting.whole(sorted(exchanging), world.size))
        return set_draws(world, exchanging, base_degrees, policy.sampling, settings)

    def _hop(self, index: int, layer: LayerBlocks) -> Hop:
        stage, device = self._stage, self._stage.world.device
        in_degree, out_degree = self._degrees
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
        node_ids = as_index(self._part.node_ids[rows], stage.world.device)
        return Rows(node_ids, stage.clock, stage.world, stage.kernels, stage.precision, stage.storage)

    def _features(self, rows: IntArray) -> Input:
        """Features of inner rows; the memory map itself where nothing has to be chosen or converted."""
        if rows.size < self._part.split.size:
            return self._read(rows)
        found: Input | None = self._stage.whole.get("features")
        if found is None:
            found = self._stage.whole["features"] = self._read(rows)
        return found

    def _read(self, rows: IntArray) -> Input:
        features, stage = self._part.features, self._stage
        if isinstance(features, CsrFeatures):
            found = chosen_rows(features, rows, stage.world.device, stage.dtype, stage.kernels)
            return found if self._sparse else found.dense()
        chosen = features if rows.size == features.shape[0] else features[rows]
        if self._far:
            return on_the_host(
                torch.from_numpy(chosen).to(stage.storage or stage.dtype), stage.world, stage.kernels
            )
        return torch.from_numpy(chosen).to(stage.world.device, stage.storage or stage.dtype)

    def _precomputed(
        self,
        conv: Conv,
        hop: Hop,
        layer: LayerBlocks,
        features: Input,
        known: HopSet | None,
    ) -> tuple[Hop, Input]:
        """Layer 0 with its aggregate, which then sends nothing, and the features that it still reads."""
        world = self._stage.world
        mine = known is not None and np.array_equal(known.layers[0].destination, layer.destination)
        shared = world.all_reduce(torch.tensor([int(mine)], device=world.device), "min")
        if known is not None and bool(shared):
            return known.hops[0], known.features
        lane = self._lane(0, FullDraws(world, {0: layer}), exact_policy(self._stage.kernels))
        exact = dataclasses.replace(hop, lane=lane)
        aggregate: Input
        with torch.no_grad():
            if isinstance(features, SparseRows):
                aggregate, note = aggregate_sparse(world, self._part.manifest, conv, exact, features)
                self._stage.notes.append(note)
            elif isinstance(features, HostRows):
                aggregate = aggregate_far(world, self._part.manifest, conv, exact, features)
            else:
                assert isinstance(features, Tensor)
                aggregate = conv.aggregate(exact, features)
        out_degree = hop.out_degree if hop.dst_place is None else hop.out_degree[hop.dst_place]
        done = dataclasses.replace(
            hop, src=hop.dst, dst_place=None, out_degree=out_degree, precomputed=aggregate
        )
        return done, features if hop.dst_place is None else self._features(layer.destination)

    def _lane(self, index: int, draws: DrawSource, policy: Policy) -> Lane:
        stage = self._stage
        return stage.lane(
            index,
            world=stage.world,
            kernels=stage.kernels,
            clock=stage.clock,
            draws=draws,
            policy=policy,
            spans=stage.spans,
            sent=stage.sent,
        )


class HopSets:
    """Builds each set once, when it is first asked for. Collective: all ranks ask in the same order."""

    def __init__(self, stage: Stage, part: Part, model: torch.nn.Module, config: TrainConfig) -> None:
        """Looks at the model's convolutions.

        Raises:
            UserError: The model has none, or --precompute does not fit its first one.
        """
        self._stage, self._part, self._config = stage, part, config
        self.convs = [module for module in model.modules() if isinstance(module, Conv)]
        if not self.convs:
            raise UserError("the model has 0 convolutions of bnsgcn.nn, at least 1 is needed")
        if config.precompute and not self.convs[0].precomputable:
            raise UserError(f"--precompute does not work with {type(self.convs[0]).__name__}; leave it out")
        # Statistics of a batch norm look at rows that cannot reach the loss otherwise.
        self._whole_rows = any(getattr(module, "needs_all_rows", False) for module in model.modules())
        self._prune = config.prune and not self._whole_rows
        self._precompute = self.convs[0] if config.precompute else None
        self.weighted = part.manifest.weighted and any(conv.weighs_edges for conv in self.convs)
        if part.manifest.weighted and not self.weighted:
            stage.notes.append("attention has no use for the graph's edge weights: they are left out")
        self._whole = whole_view(part, self_loops=config.self_loops, weighted=self.weighted)
        self._sparse = getattr(model, "takes_sparse", False)
        if isinstance(part.features, CsrFeatures) and not self._sparse:
            stage.notes.append(
                f"{type(model).__name__} does not say takes_sparse: its features are made dense"
            )
        self._far = stays_far(stage.world, part, config, stage.notes, takes_rows=self._sparse)
        self._exact = _ViewHops(stage, self._whole, prune=True, sparse=self._sparse, far=self._far)

    def labelled(self, *splits: int) -> BoolArray:
        """bool [I]: rows of the given splits that have a label."""
        chosen = np.isin(self._part.split, splits)
        return chosen & (self._part.labels >= 0) if self._part.labels.ndim == 1 else chosen

    @functools.cached_property
    def training(self) -> HopSet:
        """For the training nodes' logits, with the options' view, draws and policy."""
        stage, config, maker = self._stage, self._config, self._exact
        if config.inductive or not self._prune:
            view = training_view(self._whole) if config.inductive else self._whole
            maker = _ViewHops(stage, view, prune=self._prune, sparse=self._sparse, far=self._far)
        policy = exchange_policy(config, stage.kernels)
        made = maker.hop_set(len(self.convs), self.labelled(TRAIN), policy, precompute=self._precompute)
        for layer in made.layers:
            layer.prepare_backward()
        if self._whole_rows:
            self._check_rows(made)
        return made

    def _check_rows(self, made: HopSet) -> None:
        """UserError where a batch norm would see a single row, whose deviation is 0. Collective."""
        world = self._stage.world
        rows = int(world.all_reduce(torch.tensor([made.logits_rows.size], device=world.device)))
        if rows < 2:
            raise UserError(
                f"a batch norm needs at least 2 rows, training sees {rows}; use --norm layer or none, or "
                f"leave --inductive out"
            )

    @functools.cached_property
    def evaluation(self) -> HopSet:
        """For validation and test nodes' logits, exact."""
        return self.exact(self.labelled(VAL, TEST))

    def exact(self, targets: BoolArray, *, depth: int | None = None) -> HopSet:
        """Over all edges, exact, for the rows `targets` bool [I] after `depth` convolutions (None = all)."""
        known = self.training if self._precompute and not self._config.inductive else None
        policy = exact_policy(self._stage.kernels)
        return self._exact.hop_set(
            len(self.convs) if depth is None else depth,
            targets,
            policy,
            precompute=self._precompute,
            known=known,
        )
