"""Adam (Kingma and Ba, ICLR 2015, algorithm 1), bit for bit torch.optim.Adam's single-tensor form.

Not torch's, because making one imports torch's compiler: 68 MB and seconds for every worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class Adam:
    """Moves parameters along their gradients; the state is two tensors for each parameter and a count."""

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], *, lr: float, weight_decay: float = 0.0
    ) -> None:
        """`weight_decay`: L2 penalty, added to the gradient."""
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._lr, self._weight_decay = lr, weight_decay
        self._steps = 0
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients as they are; a parameter without one stays."""
        self._steps += 1
        step_size = self._lr / (1 - BETAS[0] ** self._steps)
        root = math.sqrt(1 - BETAS[1] ** self._steps)
        for parameter, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if self._weight_decay:
                gradient = gradient.add(parameter, alpha=self._weight_decay)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            parameter.addcdiv_(mean, square.sqrt().div_(root).add_(EPS), value=-step_size)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, apart from parameters and options."""
        return {"steps": self._steps, "means": self._means, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; tensors are copied to the parameters' device."""
        self._steps = state["steps"]
        for own, loaded in (*_pairs(self._means, state["means"]), *_pairs(self._squares, state["squares"])):
            own.copy_(loaded)


def _pairs(own: list[Tensor], loaded: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(own, loaded, strict=True))
