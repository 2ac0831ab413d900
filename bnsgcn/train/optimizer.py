"""Adam (Kingma and Ba, ICLR 2015) through torch's functional form.

Making a torch.optim.Adam imports torch's compiler, 68 MB and seconds for every worker; the function that does
its arithmetic does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

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
        moved = [place for place, parameter in enumerate(self._parameters) if parameter.grad is not None]
        adam(
            [self._parameters[place] for place in moved],
            [gradient for parameter in self._parameters if (gradient := parameter.grad) is not None],
            [self._means[place] for place in moved],
            [self._squares[place] for place in moved],
            [],
            [torch.tensor(float(self._steps - 1)) for _ in moved],
            foreach=False,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self._lr,
            weight_decay=self._weight_decay,
            eps=EPS,
            maximize=False,
        )

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
