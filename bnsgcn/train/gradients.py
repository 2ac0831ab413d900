"""One flat all-reduce of all gradients and the loss, after backward and never beside it.

Gradients are views of one flat tensor, so nothing is packed, and every rank's result is bitwise the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bnsgcn.dist import World
from partition.errors import UserError


class FlatGradients:
    """The gradients of some parameters as one tensor [sum of sizes + 1]; the last entry is the loss."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        chosen = [parameter for parameter in parameters if parameter.requires_grad]
        if not chosen:
            raise UserError("the model has 0 parameters to train, at least 1 is needed")
        self._flat = chosen[0].new_zeros(sum(parameter.numel() for parameter in chosen) + 1)
        self._parameters = chosen
        self._views: list[Tensor] = []
        start = 0
        for parameter in chosen:
            self._views.append(self._flat[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    def zero(self) -> None:
        """Forget the last step's gradients."""
        self._flat.zero_()
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.grad = view

    def clip(self, norm: float) -> None:
        """Scale what was reduced to `norm` where its own is larger, as torch.nn.utils.clip_grad_norm_ does.

        All ranks have the same gradients, bit by bit, so they need not talk, and the host need not look.
        """
        gradients = self._flat[:-1]
        gradients *= (norm / (torch.linalg.vector_norm(gradients) + 1e-6)).clamp(max=1.0)

    def reduce(self, world: World, loss: Tensor) -> Tensor:
        """Sum gradients and loss over all ranks; returns the global loss, a scalar."""
        for parameter, view in zip(self._parameters, self._views, strict=True):
            assert parameter.grad is view, "a gradient was replaced instead of accumulated"
        self._flat[-1] = loss.detach()
        world.all_reduce(self._flat)
        return self._flat[-1].clone()
