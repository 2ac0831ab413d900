"""Classes that count as a file says, or all alike: the loss of one process, whatever the number of parts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn import functional

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.run import evaluate_run, train_worker
from bnsgcn.train import target
from bnsgcn.train.class_weights import class_weights, weights_digest
from partition.errors import UserError
from tests.bnsgcn.runs import Recorded, dense_run, largest_difference, one_run, record, run_on, trainer_of
from tests.bnsgcn.small_graphs import CLASSES, PartsFolder, small_graph
from tests.multiprocess import run_ranks

SMALL = TrainConfig(
    layers=2, hidden=6, dropout=0.3, lr=0.004, dtype="float64", device="cpu", class_weights="balanced"
)


@pytest.mark.multi
@pytest.mark.parametrize("kind", ["single", "multi", "idle"])
def test_any_number_of_parts_trains_as_a_dense_matrix_does(
    kind: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    runs = []
    for parts in (1, 2, 3):
        folder = parts_folder(kind, parts)
        runs.append(run_on(folder, parts, SMALL, tmp_path))
        reference = dense_run(small_graph(kind, parts), folder, SMALL)
        assert largest_difference(runs[-1], reference) < 1e-10, parts
    if kind != "idle":
        assert max(largest_difference(run, runs[0]) for run in runs) < 1e-10
        unweighted = dataclasses.replace(SMALL, class_weights=None)
        plain = run_on(parts_folder(kind, 1), 1, unweighted, tmp_path)
        assert largest_difference(plain, runs[0]) > 1e-3


def record_with_own_counts(world: World, folder: Path) -> Recorded:
    """The breach: every rank weighs by its own training nodes."""
    with mock.patch.object(
        target, "class_counts", lambda _, labels, classes: np.bincount(labels, minlength=classes)
    ):
        return record(world, folder, SMALL)


@pytest.mark.multi
def test_weights_by_a_ranks_own_nodes_would_be_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 2)
    run = one_run(run_ranks(record_with_own_counts, 2, tmp_path, folder))
    assert largest_difference(run, dense_run(small_graph("single"), folder, SMALL)) > 1e-4


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_file_weighs_as_torch_does(kind: str, parts_folder: PartsFolder, tmp_path: Path) -> None:
    given = np.array([0.5, 3.0, 0.0, 1.25])
    np.save(tmp_path / "w.npy", given.astype("f4"))
    (tmp_path / "w.txt").write_text("0.5, 3\n0\n1.25\n")
    losses = []
    for name in ("w.npy", "w.txt"):
        config = dataclasses.replace(SMALL, class_weights=str(tmp_path / name))
        trainer = trainer_of(World.single(), parts_folder(kind, 1), config)
        trainer.training.begin(0)
        with torch.no_grad():
            logits = trainer.model(trainer.training.hops, trainer.training.features)
        losses.append(float(trainer.train_epoch()["loss"]))
    part, rows = trainer.part, trainer.training.logits_rows
    chosen = rows[part.split[rows] == 1]
    labels, kept = torch.from_numpy(part.labels[chosen]), logits[np.isin(rows, chosen)]
    weights = torch.from_numpy(given)
    if kind == "single":
        expected = torch.nn.CrossEntropyLoss(weights)(kept, labels)
    else:
        expected = functional.binary_cross_entropy_with_logits(kept, labels.double(), pos_weight=weights)
    assert losses == pytest.approx([float(expected)] * 2, abs=1e-12)


def test_balanced_leaves_out_what_has_no_other_side() -> None:
    counts = np.array([6, 0, 2, 8])
    single = class_weights(SMALL, 4, 16, counts, single=True)
    assert single == pytest.approx([16 / 18, 1, 16 / 6, 16 / 24])
    several = class_weights(SMALL, 4, 8, counts, single=False)
    assert several == pytest.approx([2 / 6, 1, 6 / 2, 1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npy", None, r"cannot be read \(No such file or directory\); name balanced, a .npy file or"),
        ("short.txt", "1 2 3", "has 3 numbers, the graph has 4 classes; give one a class"),
        ("square.npy", np.ones((4, 4)), "has 4x4 numbers, the graph has 4 classes"),
        ("words.txt", "1 2 three 4", r"cannot be read \(could not convert string to float: 'three'\)"),
        ("low.txt", "1 2 -3 4", "the weight of class 2 is -3.0, must be finite and at least 0"),
        ("nan.npy", np.array([1, np.nan, 1, 1]), "the weight of class 1 is nan, must be finite"),
        ("text.npy", np.array(list("abcd")), "holds <U1, no real numbers; name balanced"),
        ("broken.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "cannot be read"),
        ("bytes.txt", b"\xff\xfe\x00", "cannot be read"),
        ("zero.txt", "0 0 0 0", "training nodes have weight 0; give at least one of them a weight above 0"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(
    name: str, content: object, message: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    config = dataclasses.replace(SMALL, class_weights=str(path))
    with pytest.raises(UserError, match=f"^--class-weights {re.escape(str(path))}.*{message}") as caught:
        trainer_of(World.single(), parts_folder("single", 1), config)
    assert "\n" not in str(caught.value)


def digests(world: World, paths: list[str], folder: Path) -> str:
    try:
        trainer_of(world, folder, dataclasses.replace(SMALL, class_weights=paths[world.rank]))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.multi
def test_machines_with_other_numbers_in_their_file_say_so(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """The same name on every machine, as it is when /etc or a home is not shared."""
    said = run_ranks(digests_of_homes, 2, tmp_path, tmp_path, parts_folder("single", 2))
    assert said[0] == said[1]
    assert re.match("rank 1 has class weights [0-9a-f]{12}, rank 0 has [0-9a-f]{12}; give every", said[0])


def digests_of_homes(world: World, tmp_path: Path, folder: Path) -> str:
    (tmp_path / str(world.rank)).mkdir()
    (tmp_path / str(world.rank) / "w.txt").write_text(f"1 2 3 {4 + world.rank}")
    with mock.patch.dict("os.environ", {"HOME": str(tmp_path / str(world.rank))}):
        return digests(world, ["~/w.txt"] * 2, folder)


def test_a_run_goes_on_with_the_same_numbers_alone(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, run_dir, path = parts_folder("single", 1), tmp_path / "run", tmp_path / "w.txt"
    path.write_text("1 2 3 4")
    config = dataclasses.replace(SMALL, epochs=4, class_weights=str(path))
    summary = train_worker(folder, run_dir, config)
    assert summary["config"]["class_weights"] == str(path)
    more = dataclasses.replace(config, epochs=6, resume=True)
    path.write_text("1 2 3 5")
    expected = "has class weights [0-9a-f]{12}, this run has [0-9a-f]{12}; resume with the options that"
    with pytest.raises(UserError, match=expected):
        train_worker(folder, run_dir, more)
    with pytest.raises(UserError, match=r"--class-weights is None, the run in .* was started with .*w.txt"):
        train_worker(folder, run_dir, dataclasses.replace(more, class_weights=None))
    path.write_text("1.0,2.0,3.0,4.0")
    assert train_worker(folder, run_dir, more)["epochs"] == 6
    path.unlink()
    assert evaluate_run(run_dir).metric == "accuracy", "nothing is trained, so nothing is read"
    assert weights_digest(SMALL, CLASSES) == ""


def test_a_file_that_does_not_fit_leaves_no_run_behind(parts_folder: PartsFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        config = dataclasses.replace(SMALL, class_weights=str(tmp_path / "absent"))
        train_worker(parts_folder("single", 1), tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
