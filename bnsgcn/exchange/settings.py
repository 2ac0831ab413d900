"""How lanes exchange when it changes from epoch to epoch: a setting for each, per layer and peer.

A `Settings` is a worker's list of them, as its `Clock` is its epoch: whoever decides writes into it, draws
and lanes read it. A draw of an earlier epoch can be made again, since what held then is still there.

    L layers that exchange   P parts
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnsgcn.config import WireDtype

Rates = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """What travels in an epoch.

    layers: the numbers of those that exchange, [L].   rates: [L, P owners, P readers], the share of each
    boundary list that is drawn.   wires: number format of the rows of each layer, [L].   pipeline: whether
    rows and gradients of the epoch before are used.
    """

    layers: tuple[int, ...]
    rates: Rates
    wires: tuple[WireDtype, ...]
    pipeline: bool = False

    @classmethod
    def whole(
        cls, layers: Sequence[int], parts: int, wire: WireDtype = "fp32", *, pipeline: bool = False
    ) -> Setting:
        """Every row; exact but for `wire` and `pipeline`."""
        rates = np.ones((len(layers), parts, parts))
        return cls(layers=tuple(layers), rates=rates, wires=(wire,) * len(layers), pipeline=pipeline)

    def wire(self, layer: int) -> WireDtype:
        """The number format of a layer's rows."""
        return self.wires[self.layers.index(layer)]

    def rates_of(self, layer: int) -> Rates:
        """A layer's rates, [P owners, P readers]."""
        found: Rates = self.rates[self.layers.index(layer)]
        return found

    @property
    def is_exact(self) -> bool:
        """Whether every row travels as computed, in its own epoch."""
        return bool((self.rates == 1).all()) and set(self.wires) <= {"fp32"} and not self.pipeline

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dump; a layer whose lists all have one rate has a number in place of the matrix."""
        rates = [layer.flat[0] if (layer == layer.flat[0]).all() else layer.tolist() for layer in self.rates]
        layers, wires = list(self.layers), list(self.wires)
        return {"layers": layers, "rates": rates, "wires": wires, "pipeline": self.pipeline}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], parts: int) -> Setting:
        """The inverse of `to_json`."""
        layers = [np.broadcast_to(np.asarray(rate, np.float64), (parts, parts)) for rate in values["rates"]]
        rates = np.stack(layers) if layers else np.ones((0, parts, parts))
        return cls(
            layers=tuple(values["layers"]),
            rates=rates,
            wires=tuple(values["wires"]),
            pipeline=bool(values["pipeline"]),
        )


class Settings:
    """The setting of every epoch; each holds until the next begins."""

    def __init__(self) -> None:
        self._epochs: list[tuple[int, Setting]] = []

    def of(self, epoch: int) -> Setting:
        """What holds in `epoch`."""
        return next(setting for since, setting in reversed(self._epochs) if since <= max(epoch, 0))

    def put(self, epoch: int, setting: Setting) -> None:
        """Let `setting` hold from `epoch` on."""
        self._epochs = [entry for entry in self._epochs if entry[0] < epoch] + [(epoch, setting)]
