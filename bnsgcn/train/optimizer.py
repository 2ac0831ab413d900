"""Optimisers: what one has to offer, Adam and AdamW, and learning rates that follow a schedule."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim.adam import adam

from bnsgcn.config import TrainConfig
from partition.errors import UserError

BETAS = (0.9, 0.999)
EPS = 1e-8


class Optimizer(Protocol):
    """Moves the parameters that it was made with along their gradients; any torch.optim.Optimizer is one.

    Its state must be tensors and plain values: checkpoints are read back without unpickling anything else.
    """

    def step(self) -> Any:
        """One step along the gradients as they are."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, apart from parameters and options."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """The inverse of `state_dict`."""


MakeOptimizer: TypeAlias = Callable[[list[torch.nn.Parameter]], Optimizer]
"""From the parameters to their optimiser, such as `functools.partial(torch.optim.SGD, lr=0.1)`."""
Schedule: TypeAlias = Callable[[int], float]
"""From the epoch, counted from 0, to the factor on the learning rate; a pure function, alike on all ranks."""


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) or AdamW (Loshchilov and Hutter, ICLR 2019) in torch's functional form.

    The state is two tensors for each parameter and a count. Making a torch.optim.Adam imports torch's
    compiler, 68 MB and seconds for every worker; the function that does its arithmetic does not.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        """Nothing is moved yet.

        Args:
            weight_decay: L2 penalty, added to the gradient; if `decoupled`, as AdamW has it, the share that
                the weights lose in a step, times the rate.
        """
        self._decoupled = decoupled
        self.param_groups = [{"lr": lr, "weight_decay": weight_decay}]
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
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
            [torch.tensor(float(self._steps - 1)) for _ in moved],  # on the host, whatever the device
            foreach=self._means[0].device.type != "cpu",  # there, one pass a tensor is as fast
            decoupled_weight_decay=self._decoupled,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.param_groups[0]["lr"],
            weight_decay=self.param_groups[0]["weight_decay"],
            eps=EPS,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, apart from parameters and options."""
        return {"steps": self._steps, "means": self._means, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """The inverse of `state_dict`; tensors are copied to the parameters' device."""
        self._steps = state["steps"]
        for own, loaded in (*_pairs(self._means, state["means"]), *_pairs(self._squares, state["squares"])):
            own.copy_(loaded)


def make_adam(config: TrainConfig) -> MakeOptimizer:
    """The optimiser that the options name."""
    return functools.partial(
        Adam, lr=config.lr, weight_decay=config.weight_decay, decoupled=config.optimizer == "adamw"
    )


def _pairs(own: list[Tensor], loaded: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(own, loaded, strict=True))


class Rates:
    """The learning rates of an optimiser, times what a schedule says of the epoch."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule | None) -> None:
        """UserError when there is a schedule, but no `param_groups` whose rates it could change."""
        self._optimizer: Any = optimizer
        self._schedule = schedule
        groups: Any = getattr(optimizer, "param_groups", None)
        if schedule is not None and groups is None:
            raise UserError(
                f"a schedule changes the lr of param_groups, {type(optimizer).__name__} has none; "
                f"leave the schedule out and change the rate in step()"
            )
        self._base = [] if schedule is None else [group["lr"] for group in groups]

    def begin(self, epoch: int) -> None:
        """Set the rates of an epoch."""
        if self._schedule is None:
            return
        factor = float(self._schedule(epoch))
        if not (math.isfinite(factor) and factor >= 0):
            raise UserError(f"the schedule's factor is {factor} in epoch {epoch}, must be finite and >= 0")
        # Loading a state makes new groups, with the rates of the epoch in which it was saved.
        for group, lr in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = lr * factor
