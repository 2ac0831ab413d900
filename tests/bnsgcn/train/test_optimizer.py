"""Our Adam and AdamW are torch's, bit for bit, and take up where they were."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from bnsgcn.train.optimizer import Adam
from tests import forked


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((5, 7), (7,), (1, 2, 3))
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def give_gradients(chosen: list[torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in chosen:
        size = 10.0 ** (step % 5 - 3)
        parameter.grad = size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("weight_decay", "decoupled"), [(0.0, False), (0.02, False), (0.02, True)])
def test_twenty_steps_are_torchs(weight_decay: float, decoupled: bool, dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    mine: Any = Adam(ours, lr=0.01, weight_decay=weight_decay, decoupled=decoupled)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    reference = kind(theirs, lr=0.01, weight_decay=weight_decay, foreach=False)
    for step in range(20):
        for chosen, optimizer in ((ours, mine), (theirs, reference)):
            give_gradients(chosen, step)
            optimizer.step()
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b), step


def test_it_goes_on_from_its_state_and_not_without() -> None:
    straight, resumed, fresh = (parameters(torch.float32) for _ in range(3))
    first, second, third = (Adam(chosen, lr=0.01) for chosen in (straight, resumed, fresh))
    for step in range(6):
        if step == 3:
            state = second.state_dict()
            second = Adam(resumed, lr=0.01)
            second.load_state_dict(state)
            third = Adam(fresh, lr=0.01)
        for chosen, optimizer in ((straight, first), (resumed, second), (fresh, third)):
            give_gradients(chosen, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))
    assert not torch.equal(straight[0], fresh[0])


def test_a_parameter_without_a_gradient_stays() -> None:
    chosen = parameters(torch.float32)
    before = chosen[1].detach().clone()
    give_gradients(chosen, 0)
    chosen[1].grad = None
    Adam(chosen, lr=0.1).step()
    assert torch.equal(chosen[1], before)


def test_training_does_not_load_the_compiler() -> None:
    """Making torch's Adam imports it: 68 MB and seconds for every worker."""
    program = "import sys, torch, bnsgcn.train.trainer; p = torch.nn.Parameter(torch.ones(2));"
    program += "{}; print('torch._dynamo' in sys.modules)"
    found = [
        forked.printed(program.format(made), os.environ)
        for made in ("bnsgcn.train.optimizer.Adam([p], lr=0.1)", "torch.optim.Adam([p], lr=0.1)")
    ]
    assert found == ["False", "True"]
