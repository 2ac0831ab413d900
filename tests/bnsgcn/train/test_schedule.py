"""The factors of the options are torch's schedules, and a run goes by them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.train.evaluate import Scores
from bnsgcn.train.progress import Progress
from bnsgcn.train.schedule import schedule_of

EPOCHS = 12


def factors(scores: list[float] | None = None, **options: Any) -> list[float]:
    """Of every epoch of a run that is evaluated after each."""
    config, progress = TrainConfig(epochs=EPOCHS, eval_every=1, **options), Progress()
    schedule, found = schedule_of(config, progress), []
    assert schedule is not None
    for epoch in range(EPOCHS):
        found.append(schedule(epoch))
        progress.epoch += 1
        if scores is not None:
            progress.note(Scores(metric="accuracy", val=scores[epoch], test=0.0), config)
    return found


def torchs(make: Any, scores: list[float] | None = None) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule, found = make(optimizer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of the optimiser goes before that of the schedule
        for epoch in range(EPOCHS):
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step(*([] if scores is None else [scores[epoch]]))
    return found


def test_a_constant_rate_without_warm_up_needs_no_schedule() -> None:
    assert schedule_of(TrainConfig(), Progress()) is None
    assert schedule_of(TrainConfig(warmup=1), Progress()) is not None


def test_the_warm_up_is_linear_and_then_the_rate_is_whole() -> None:
    rising = torch.optim.lr_scheduler.LinearLR
    assert factors(warmup=3) == pytest.approx(torchs(lambda o: rising(o, start_factor=0.25, total_iters=3)))
    assert factors(warmup=3)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_the_cosine_ends_with_the_run() -> None:
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    assert factors(lr_schedule="cosine") == pytest.approx(torchs(lambda o: cosine(o, T_max=EPOCHS)))
    shorter = torchs(lambda o: cosine(o, T_max=EPOCHS - 3))
    assert factors(lr_schedule="cosine", warmup=3)[3:] == pytest.approx(shorter[: EPOCHS - 3])
    assert min(factors(lr_schedule="cosine")) > 0


@pytest.mark.parametrize("lr_patience", [1, 2, 3])
def test_the_plateau_halves_the_rate_where_scores_stay(lr_patience: int) -> None:
    scores = [0.1, 0.2, 0.2, 0.1, 0.15, 0.3, 0.3, 0.3, 0.3, 0.3, 0.4, 0.1]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    expected = torchs(
        lambda o: plateau(o, mode="max", factor=0.5, patience=lr_patience - 1, threshold=0.0), scores
    )
    assert factors(scores, lr_schedule="plateau", lr_patience=lr_patience) == expected
    assert min(expected) < 1, "or else this shows nothing"


def test_other_schedules_do_not_count_what_a_plateau_does() -> None:
    assert factors([0.0] * EPOCHS, warmup=1, lr_patience=1) == [0.5] + [1.0] * (EPOCHS - 1)


def test_progress_of_an_older_checkpoint_has_no_drops() -> None:
    progress, older = Progress(rate_drops=4), vars(Progress(epoch=3))
    progress.take_over({name: value for name, value in older.items() if name != "rate_drops"})
    assert (progress.epoch, progress.rate_drops) == (3, 0)
