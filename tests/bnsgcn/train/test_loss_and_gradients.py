"""The loss is one process's, in shares; gradients are views of one tensor, reduced once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bnsgcn.dist import World
from bnsgcn.nn.loss import task_loss
from bnsgcn.train.gradients import FlatGradients
from tests.multiprocess import run_ranks


def logits_and_labels(multi: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    if multi:
        return logits, torch.randint(0, 2, (10, 3), generator=generator).double()
    return logits, torch.randint(0, 3, (10,), generator=generator)


def by_formula(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if labels.dim() == 1:
        return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
    p = logits.sigmoid()
    return -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()


@pytest.mark.parametrize("multi", [False, True])
def test_shares_add_up_to_the_loss_of_one_process(multi: bool) -> None:
    logits, labels = logits_and_labels(multi)
    shares = [task_loss(logits[rows], labels[rows], 10) for rows in (slice(0, 7), slice(7, 10), slice(0, 0))]
    assert float(sum(shares)) == pytest.approx(float(by_formula(logits, labels)), abs=1e-14)
    assert float(shares[2]) == 0


@pytest.mark.parametrize("multi", [False, True])
def test_a_rank_without_training_nodes_has_gradients_of_0(multi: bool) -> None:
    logits, labels = logits_and_labels(multi)
    logits.requires_grad_()
    task_loss(logits[:0], labels[:0], 10).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_gradients_are_views_of_one_tensor() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    model[1].weight.requires_grad_(False)
    flat = FlatGradients(model.parameters())
    flat.zero()
    model(torch.ones(4, 3)).sum().backward()
    storages = {p.grad.untyped_storage().data_ptr() for p in model.parameters() if p.grad is not None}
    assert len(storages) == 1
    before = model[0].weight.grad.clone()  # type: ignore[union-attr]
    assert float(flat.reduce(World.single(), torch.tensor(3.0))) == 3
    assert torch.equal(model[0].weight.grad, before)  # type: ignore[arg-type]
    flat.zero()
    assert not model[0].weight.grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("norm", [0.5, 100.0])
def test_gradients_are_clipped_as_torch_does(norm: float) -> None:
    parameters = [torch.nn.Parameter(torch.ones(size, dtype=torch.float64)) for size in (3, 5)]
    flat = FlatGradients(parameters)
    flat.zero()
    sum(((p**2) @ torch.arange(1.0, len(p) + 1).double() for p in parameters), torch.tensor(0.0)).backward()
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    for their, mine in zip(theirs, parameters, strict=True):
        assert mine.grad is not None
        their.grad = mine.grad.clone()
    loss = flat.reduce(World.single(), torch.tensor(3.0))
    torch.nn.utils.clip_grad_norm_(theirs, norm)
    flat.clip(norm)
    for their, mine in zip(theirs, parameters, strict=True):
        assert torch.allclose(their.grad, mine.grad, rtol=1e-14)  # type: ignore[arg-type]
    assert float(flat.reduce(World.single(), loss)) == 3, "the loss beside them is none"


def test_a_gradient_that_was_replaced_is_noticed() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    flat = FlatGradients([parameter])
    flat.zero()
    parameter.grad = torch.ones(3)
    with pytest.raises(AssertionError, match="replaced"):
        flat.reduce(World.single(), torch.tensor(0.0))


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="0 parameters to train"):
        FlatGradients([torch.nn.Parameter(torch.ones(1), requires_grad=False)])


def reduced(world: World) -> tuple[float, torch.Tensor]:
    parameter = torch.nn.Parameter(torch.ones(3))
    flat = FlatGradients([parameter])
    flat.zero()
    (parameter * torch.tensor([1.0, 10, 100]) * (world.rank + 1)).sum().backward()
    loss = flat.reduce(world, torch.tensor(float(world.rank)))
    assert parameter.grad is not None
    return float(loss), parameter.grad.clone()


@pytest.mark.multi
def test_gradients_and_loss_are_summed_over_ranks(tmp_path: Path) -> None:
    for loss, gradient in run_ranks(reduced, 3, tmp_path):
        assert loss == 3
        assert gradient.tolist() == [6, 60, 600]
