"""Payload bytes that a rank sends, by layer and direction; bodies of messages alone."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class LayerSent:
    """Payload bytes of one layer since the last `reset`."""

    features: int = 0
    gradients: int = 0


class SentBytes:
    """Payload bytes that this rank has sent since the last `reset`."""

    def __init__(self) -> None:
        self._layers: dict[int, LayerSent] = {}

    def of_layer(self, layer: int) -> LayerSent:
        """The count of one layer, to add to."""
        return self._layers.setdefault(layer, LayerSent())

    def by_layer(self) -> dict[int, LayerSent]:
        """The counts of all layers that exchange, lowest first."""
        return dict(sorted(self._layers.items()))

    @property
    def features(self) -> int:
        """Of all layers."""
        return sum(layer.features for layer in self._layers.values())

    @property
    def gradients(self) -> int:
        """Of all layers."""
        return sum(layer.gradients for layer in self._layers.values())

    def reset(self) -> None:
        """Start counting anew."""
        for layer in self._layers.values():
            layer.features = layer.gradients = 0
