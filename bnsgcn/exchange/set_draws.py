"""Importance draws whose rates are those of each epoch's setting: per layer and boundary list."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from bnsgcn.dist import World
from bnsgcn.exchange import sampling
from bnsgcn.exchange.draws import LayerDraw, SampledDraws, Sampling
from bnsgcn.exchange.importance import importance_weights
from bnsgcn.exchange.sampling import FloatArray
from bnsgcn.exchange.settings import Setting, Settings
from bnsgcn.local.blocks import Degrees, LayerBlocks
from bnsgcn.local.boundary import IntArray

_PROBABILITIES_KEPT = 512


class SetDraws(SampledDraws):
    """Every layer has a draw of its own; where all its rates are 1, every row."""

    def __init__(
        self,
        world: World,
        layers: Mapping[int, LayerBlocks],
        how: Sampling,
        weights: tuple[list[FloatArray], list[FloatArray]],
        settings: Settings,
    ) -> None:
        """`weights`: importance of every base entry, (per reader, per owner)."""
        super().__init__(world, layers, how)
        self._settings, self._weights = settings, weights
        self._under: dict[tuple[int, int], Setting] = {}
        self._probability_of = functools.lru_cache(_PROBABILITIES_KEPT)(self._probability_at)

    def draw(self, layer: int, epoch: int) -> LayerDraw:
        """The layer's draw of `epoch`, at that epoch's rates."""
        setting = self._settings.of(epoch)
        if (setting.rates_of(layer) == 1).all():
            return self._full.draw(layer, epoch)
        if self._under.get((layer, epoch)) is not setting:  # made ahead, before it was decided otherwise
            self._made.pop((layer, epoch), None)
            self._drawn.pop((layer, epoch), None)
            self._under = {key: old for key, old in self._under.items() if key[1] >= epoch - 1}
            self._under[layer, epoch] = setting
        return super().draw(layer, epoch)

    def _list_draw(self, layer: int, epoch: int, peer: int, rows: int, sending: bool) -> sampling.ListDraw:
        sender, reader = (self._world.rank, peer) if sending else (peer, self._world.rank)
        rate = float(self._settings.of(epoch).rates_of(layer)[sender, reader])
        return sampling.draw_systematic(
            self._probability_of(peer, rate, sending),
            seed=self._how.seed,
            epoch=epoch,
            sender=sender,
            reader=reader,
            layer=layer,
        )

    def _probability_at(self, peer: int, rate: float, sending: bool) -> FloatArray:
        return sampling.inclusion_probabilities(self._weights[0 if sending else 1][peer], rate)

    @property
    def layers(self) -> tuple[int, ...]:
        """Those that exchange, lowest first."""
        return tuple(sorted(self._layers))

    def slots(self) -> Iterator[tuple[int, FloatArray, list[IntArray]]]:
        """Of every owner: the weights of this rank's base slots, and which of them each layer reads."""
        ends = np.cumsum([0, *self._base.recv_splits])
        for owner, weight in enumerate(self._weights[1]):
            first, end = ends[owner : owner + 2]
            every = [self._places[layer][1] for layer in self.layers]
            yield owner, weight, [places[(places >= first) & (places < end)] - first for places in every]


def set_draws(
    world: World,
    layers: Mapping[int, LayerBlocks],
    degrees: tuple[Degrees, Degrees],
    how: Sampling,
    settings: Settings,
) -> SetDraws:
    """The draws of `layers`, those that exchange by their number; `degrees` of the lowest. Collective."""
    assert how.importance is not None
    weights = importance_weights(world, layers[min(layers)], degrees, how.importance)
    return SetDraws(world, layers, how, weights, settings)
