"""A run that is over stays as it is; another one goes on, line by line and bit by bit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent
from bnsgcn.run import train_worker
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.optimizer import Optimizer
from bnsgcn.train.seal import epoch_of, sealed_folders
from bnsgcn.train.trainer import Trainer
from partition.store import open_part
from tests.bnsgcn.runs import weights_digest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.killing import killed_at_every_step

CONFIG = TrainConfig(layers=2, hidden=8, dropout=0.2, epochs=12, eval_every=2)


class NeverBetter(Trainer):
    """A trainer whose first evaluation stays the best."""

    def evaluate(self) -> Any:
        return dataclasses.replace(super().evaluate(), val=1.0 - 0.01 * self.progress.epoch)


def trainer_in(
    run_dir: Path,
    folder: Path,
    config: TrainConfig,
    kind: type[Trainer] = Trainer,
    **more: Any,
) -> Trainer:
    """A trainer as the command makes it, for one worker."""
    part, run = open_part(folder, 0), RunFolder(run_dir)
    run.create(config, part.manifest, folder)
    checkpoints = Checkpoints(run_dir, World.single())
    model = build_model(part.manifest, config)
    return kind(World.single(), part, model, config, run=run, checkpoints=checkpoints, **more)


def written(run_dir: Path) -> dict[str, bytes]:
    return {name: (run_dir / name).read_bytes() for name in ("metrics.jsonl", "rank_0.jsonl", "summary.json")}


class Ending(Silent):
    """Keeps the summary that it is shown."""

    def on_end(self, summary: dict[str, Any]) -> None:
        self.summary = summary


@pytest.mark.parametrize("options", [{"patience": 2}, {"patience": 2, "checkpoint_every": 7}, {}], ids=str)
def test_a_run_that_is_over_stays_as_it_is(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder, config = parts_folder("single", 1), dataclasses.replace(CONFIG, **options)
    first = trainer_in(tmp_path / "run", folder, config, NeverBetter)
    first.fit({"least_rss_bytes": 1})
    assert first.progress.epoch == (6 if "patience" in options else 12)
    before, ending = written(tmp_path / "run"), Ending()
    resumed = dataclasses.replace(config, resume=True)
    again = trainer_in(tmp_path / "run", folder, resumed, NeverBetter, listener=ending)
    summary = again.fit({"least_rss_bytes": 2})
    assert again.progress == first.progress
    assert weights_digest(again.model) == weights_digest(first.model)
    assert written(tmp_path / "run") == before
    assert summary == ending.summary == RunFolder(tmp_path / "run").summary()


def test_more_epochs_or_more_patience_go_on(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 1)
    straight = trainer_in(tmp_path / "straight", folder, CONFIG, NeverBetter)
    expected = straight.fit()
    for name, short in {"epochs": 6, "patience": 2}.items():
        changed = dataclasses.replace(CONFIG, **{name: short})
        assert trainer_in(tmp_path / name, folder, changed, NeverBetter).fit()["epochs"] == 6
        again = trainer_in(tmp_path / name, folder, dataclasses.replace(CONFIG, resume=True), NeverBetter)
        assert again.fit()["final_loss"] == expected["final_loss"]
        assert weights_digest(again.model) == weights_digest(straight.model)
        assert [line["epoch"] for line in RunFolder(tmp_path / name).metrics()] == list(range(12))


def test_a_run_that_was_killed_before_its_summary_gets_one(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 1)
    expected = trainer_in(tmp_path / "run", folder, CONFIG).fit()
    (tmp_path / "run" / "summary.json").unlink()
    resumed = dataclasses.replace(CONFIG, resume=True)
    found = trainer_in(tmp_path / "run", folder, resumed).fit()
    assert found | {"config": None} == expected | {"config": None}
    assert RunFolder(tmp_path / "run").summary() == found


def test_damaged_records_do_not_keep_a_run_from_its_end(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """Lines and a summary that are JSON, and of no use."""
    folder = parts_folder("single", 1)
    expected = trainer_in(tmp_path / "run", folder, dataclasses.replace(CONFIG, epochs=6)).fit()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    useless = [
        '{"epoch": 0}',
        json.dumps(json.loads(lines[1]) | {"time/epoch_s": None, "comm/sent_bytes": "x"}),
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join([*useless, *lines[2:], ""]))
    for summary in ({"epochs": 6}, expected | {"epochs": 7}, {"epochs": None}):
        RunFolder(tmp_path / "run").write_summary(summary)
        again = trainer_in(tmp_path / "run", folder, dataclasses.replace(CONFIG, epochs=6, resume=True)).fit()
        assert again["val_score"] == expected["val_score"]
        assert RunFolder(tmp_path / "run").summary() == again


def momentum(parameters: list[torch.nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def cosine(epoch: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * epoch / 12))


class Warmed:
    """An optimiser of one's own that takes torch's schedule along."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self._sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)
        self._rates = torch.optim.lr_scheduler.LinearLR(self._sgd, total_iters=8)

    def step(self) -> None:
        self._sgd.step()
        self._rates.step()

    def state_dict(self) -> dict[str, Any]:
        return {"sgd": self._sgd.state_dict(), "rates": self._rates.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._sgd.load_state_dict(state["sgd"])
        self._rates.load_state_dict(state["rates"])


class Interrupted(Exception):
    """The run is stopped."""


class StoppedAt(Silent):
    """Stops a run after some epochs."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_epoch(self, metrics: dict[str, Any]) -> None:
        if metrics["epoch"] + 1 == self._epochs:
            raise Interrupted


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({"lr_schedule": "plateau", "lr_patience": 1, "warmup": 2}, {"epochs": 13, "eval_every": 3}),
        ({"lr_schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.1}, {"epochs": 13}),
    ],
)
def test_a_schedule_of_the_options_goes_on_bitwise(
    options: dict[str, Any], held: dict[str, int], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """With nothing changed that it goes by."""
    folder, config = parts_folder("single", 1), dataclasses.replace(CONFIG, **options)
    straight = trainer_in(tmp_path / "straight", folder, config, NeverBetter)
    straight.fit()
    stopped = trainer_in(tmp_path / "stopped", folder, config, NeverBetter, listener=StoppedAt(9))
    with pytest.raises(Interrupted):
        stopped.fit()
    resumed = dataclasses.replace(config, resume=True)
    for name, value in held.items():
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is {value}, the run in .* with "):
            trainer_in(tmp_path / "stopped", folder, dataclasses.replace(resumed, **{name: value}))
    again = trainer_in(tmp_path / "stopped", folder, resumed, NeverBetter)
    again.load("latest")
    assert (again.progress.epoch, again.progress.rate_drops) == (8, 3 if "lr_patience" in options else 0)
    again.fit()
    assert weights_digest(again.model) == weights_digest(straight.model)
    assert weights_digest(again.model) != weights_of(folder, CONFIG)


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({"optimizer": "adamw"}, "optimizer"),
        ({"lr_schedule": "cosine"}, "schedule"),
        ({"warmup": 2}, "schedule"),
        ({"label_smoothing": 0.1}, "loss"),
    ],
)
def test_an_option_and_ones_own_in_its_place_are_refused(
    options: dict[str, Any], own: str, parts_folder: PartsFolder
) -> None:
    (name, value), config = *options.items(), dataclasses.replace(CONFIG, **options)
    line = f"--{name.replace('_', '-')} {value} and the {own} of your own: leave one out"
    with pytest.raises(ValueError, match=f"^{line}$"):
        weights_of(parts_folder("single", 1), config, **{own: momentum})


def test_labels_of_which_a_node_has_several_are_not_smoothed(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"^--label-smoothing 0.1 spreads .* multi have several; leave it"):
        train_worker(parts_folder("multi", 1), tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


WAYS: dict[str, dict[str, Callable[..., Any]]] = {
    "momentum": {"optimizer": momentum},
    "cosine": {"optimizer": momentum, "schedule": cosine},
    "adam cosine": {"schedule": cosine},
    "warmed": {"optimizer": Warmed},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_optimiser_and_a_schedule_of_ones_own_go_on_bitwise(
    way: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder, more = parts_folder("single", 1), WAYS[way]
    straight = trainer_in(tmp_path / "straight", folder, CONFIG, **more)
    straight.fit()
    short, resumed = dataclasses.replace(CONFIG, epochs=7), dataclasses.replace(CONFIG, resume=True)
    trainer_in(tmp_path / "resumed", folder, short, **more).fit()
    again = trainer_in(tmp_path / "resumed", folder, resumed, **more)
    again.fit()
    assert weights_digest(again.model) == weights_digest(straight.model)


def weights_of(folder: Path, config: TrainConfig, **more: Any) -> str:
    part = open_part(folder, 0)
    trainer = Trainer(World.single(), part, build_model(part.manifest, config), config, **more)
    trainer.fit()
    return weights_digest(trainer.model)


def test_each_way_to_optimise_does_something_else(parts_folder: PartsFolder) -> None:
    digests = {weights_of(parts_folder("single", 1), CONFIG, **more) for more in [{}, *WAYS.values()]}
    assert len(digests) == 1 + len(WAYS)


def test_the_rate_of_an_epoch_is_the_schedules(parts_folder: PartsFolder) -> None:
    """A factor of 0 keeps the weights; one of 1 is no schedule; half of everything is half the rate."""
    folder = parts_folder("single", 1)
    plain = functools.partial(torch.optim.SGD, lr=0.1)
    half = functools.partial(torch.optim.SGD, lr=0.05)
    untouched = build_model(open_part(folder, 0).manifest, CONFIG)
    assert weights_of(folder, CONFIG, optimizer=plain, schedule=lambda _: 0) == weights_digest(untouched)
    assert weights_of(folder, CONFIG, schedule=lambda _: 1.0) == weights_of(folder, CONFIG)
    assert weights_of(folder, CONFIG, optimizer=plain, schedule=lambda _: 0.5) == weights_of(
        folder, CONFIG, optimizer=half
    )


@pytest.mark.parametrize("factor", [math.nan, math.inf, -0.5])
def test_a_factor_that_is_no_factor_is_refused(factor: float, parts_folder: PartsFolder) -> None:
    with pytest.raises(ValueError, match=r"the schedule's factor is .* in epoch 0, must be finite and >= 0"):
        weights_of(parts_folder("single", 1), CONFIG, schedule=lambda _: factor)


def test_a_schedule_needs_rates_to_change(parts_folder: PartsFolder) -> None:
    with pytest.raises(ValueError, match="Warmed has none; leave the schedule out"):
        weights_of(parts_folder("single", 1), CONFIG, optimizer=Warmed, schedule=cosine)


def test_killed_at_any_step_a_run_ends_bitwise_as_if_never_killed(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """With a line an epoch in every file, and the best that the summary names."""
    config = dataclasses.replace(CONFIG, epochs=4)
    folder, numbers = parts_folder("single", 1), itertools.count()
    whole = trainer_in(tmp_path / "whole", folder, config)
    summary = whole.fit()

    def train(run_dir: Path) -> None:
        torch.set_num_threads(1)  # threads do not survive a fork
        trainer_in(run_dir, folder, config).fit()

    starts = Counter[int]()
    for run_dir, _ in killed_at_every_step(lambda: tmp_path / str(next(numbers)), train, stride=13):
        found = sealed_folders(run_dir / "checkpoints")
        starts[epoch_of(found[0]) or 0 if found else 0] += 1
        again = trainer_in(run_dir, folder, dataclasses.replace(config, resume=True))
        ended = again.fit()
        assert weights_digest(again.model) == weights_digest(whole.model)
        assert [ended[name] for name in SCORES] == [summary[name] for name in SCORES]
        for name in ("metrics.jsonl", "rank_0.jsonl"):
            assert losses_in(run_dir / name) == losses_in(tmp_path / "whole" / name)
        again.load_best()
        assert again.evaluate().val == summary["val_score"]
    assert starts.keys() == {0, 2, 4}
    assert sum(starts.values()) > 10


SCORES = ("val_score", "test_score", "best_epoch", "epochs", "final_loss")


def losses_in(path: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["epoch"], line["loss"]) for line in lines]
