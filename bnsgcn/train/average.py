"""An exponential moving average of the weights, which a run may be scored, predicted and kept by.

After epoch t, counted from 1, with decay d and the weights w of every epoch:

    average = sum over e <= t of d^(t - e) w_e, divided by the sum of these d^(t - e)

so the weights at the start have no part in it (Adam's correction, Kingma and Ba, ICLR 2015, section 3).
Buffers, such as the running statistics of a batch norm, stay the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """The averages of a model's trained parameters; the same on every rank, since the parameters are."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._decay = decay
        self.others = [parameter.detach().clone() for parameter in self._parameters]
        """The averages; inside `in_place` the weights that are trained."""

    @torch.no_grad()
    def update(self, epochs: int) -> None:
        """Take the weights after a step into account; `epochs` steps were made, this one included."""
        share = (1 - self._decay) / (1 - self._decay**epochs)
        for average, parameter in zip(self.others, self._parameters, strict=True):
            average.lerp_(parameter, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages as its weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def restart(self) -> None:
        """What the model has as weights now is the average too."""
        for average, parameter in zip(self.others, self._parameters, strict=True):
            average.copy_(parameter)

    @torch.no_grad()
    def load(self, trained: list[Tensor]) -> None:
        """What the model has as weights now is the average, and `trained` are what is trained on."""
        self.restart()
        for parameter, weights in zip(self._parameters, trained, strict=True):
            parameter.copy_(weights)

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, parameter in zip(self.others, self._parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
