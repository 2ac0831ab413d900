"""The hop sets of a run, from its options: one to train on, one to evaluate on, one to predict on.

Training may see less of the graph (inductive), sample it, or read it late; evaluation and prediction are
always exact and see all edges, on the same part.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from bnsgcn.blocks import BlockBuilder, View, training_view, whole_view
from bnsgcn.config import TrainConfig
from bnsgcn.halo import BoolArray
from bnsgcn.hops import HopSet, Stage, exact_policy
from bnsgcn.nn.conv import Conv
from bnsgcn.policy import draw_source, exchange_policy
from partition.graph import TEST, TRAIN, VAL
from partition.store import Part


class HopSets:
    """Builds each set once, when it is first asked for. Collective: all ranks ask in the same order."""

    def __init__(self, stage: Stage, part: Part, model: torch.nn.Module, config: TrainConfig) -> None:
        """ValueError when the model has no convolution, or --precompute does not fit its first one."""
        self._stage, self._part, self._config = stage, part, config
        self.convs = [module for module in model.modules() if isinstance(module, Conv)]
        if not self.convs:
            raise ValueError("the model has 0 convolutions of bnsgcn.nn, at least 1 is needed")
        if config.precompute and not self.convs[0].precomputable:
            raise ValueError(f"--precompute does not work with {type(self.convs[0]).__name__}; leave it out")
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
        hops.connect(exchange_policy(config, stage.kernels), draw_source(config, stage.world, hops))
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
