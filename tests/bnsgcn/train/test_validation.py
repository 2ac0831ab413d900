"""Validation nodes out of training nodes: the same however the graph is cut, and training on the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.run import evaluate_run, train_worker
from bnsgcn.train.validation import validation_nodes, with_validation
from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import NONE, TEST, TRAIN, VAL, Graph
from partition.store import open_part, read_manifest
from tests.bnsgcn.runs import dense_run, largest_difference, run_on, trainer_of
from tests.bnsgcn.small_graphs import PartsFolder, small_graph
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=2, hidden=6, dropout=0.3, lr=0.004, dtype="float64", device="cpu", val_share=0.3)


def without_validation(kind: str = "single") -> Graph:
    graph = small_graph(kind)
    return dataclasses.replace(graph, split=np.where(graph.split == VAL, NONE, graph.split).astype(np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("without")
    for parts in (1, 2, 3):
        partition_graph(without_validation(), parts=parts, out=root / str(parts), method="random")
    return {parts: root / str(parts) for parts in (1, 2, 3)}


def splits(world: World, folder: Path, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Split of all nodes as this rank knows them: of its inner rows and of its halo slots; 9 elsewhere."""
    part, _ = with_validation(world, open_part(folder, world.rank), config)
    ids = [open_part(folder, rank).node_ids for rank in range(world.size)]
    inner, halo = np.full(48, 9), np.full(48, 9)
    inner[part.node_ids], halo[np.concatenate(ids)[part.halo_ids]] = part.split, part.halo_split
    return inner, halo


def split_of(folders: dict[int, Path], parts: int, config: TrainConfig, tmp_path: Path) -> np.ndarray:
    ranks = run_ranks(splits, parts, tmp_path, folders[parts], config)
    whole = np.min([inner for inner, _ in ranks], axis=0)
    for _, halo in ranks:
        assert np.isin(halo, (9, *whole)).all()
        assert (halo == np.where(halo == 9, 9, whole)).all(), "a rank knows its halo as its owner does"
    return whole


@pytest.mark.multi
def test_the_nodes_do_not_depend_on_the_number_of_parts(folders: dict[int, Path], tmp_path: Path) -> None:
    before = without_validation().split
    drawn = [split_of(folders, parts, CONFIG, tmp_path) for parts in (1, 2, 3)]
    assert all(np.array_equal(split, drawn[0]) for split in drawn)
    changed = drawn[0] != before
    assert (before[changed] == TRAIN).all()
    assert (drawn[0][changed] == VAL).all()
    assert changed.sum() == round(0.3 * (before == TRAIN).sum())
    another = split_of(folders, 2, dataclasses.replace(CONFIG, seed=1), tmp_path)
    assert (another == VAL).sum() == changed.sum()
    assert not np.array_equal(another, drawn[0])


@pytest.mark.multi
@pytest.mark.parametrize("inductive", [False, True])
def test_training_is_that_of_a_graph_with_these_validation_nodes(
    inductive: bool, folders: dict[int, Path], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, inductive=inductive, class_weights="balanced")
    split = split_of(folders, 1, config, tmp_path).astype(np.uint8)
    graph = dataclasses.replace(without_validation(), split=split)
    reference = dense_run(graph, folders[1], config)
    for parts in (1, 2, 3):
        assert largest_difference(run_on(folders[parts], parts, config, tmp_path), reference) < 1e-10
    other = dense_run(without_validation(), folders[1], config)
    assert np.abs(np.subtract(other.losses, reference.losses)).max() > 1e-4, "or else this shows nothing"


def test_a_run_without_validation_nodes_says_how(parts_folder: PartsFolder, folders: dict[int, Path]) -> None:
    graph = (
        "single has 0 validation nodes, and the best checkpoint is chosen by them; --val-share 0.1 takes a"
    )
    with pytest.raises(UserError, match=rf"^{graph} tenth of its \d+ training nodes$"):
        trainer_of(World.single(), folders[1], dataclasses.replace(CONFIG, val_share=0.0))
    with pytest.raises(
        UserError, match=r"chosen by them, --tolerance is measured with them; --val-share 0.1"
    ):
        trainer_of(World.single(), folders[1], dataclasses.replace(CONFIG, val_share=0.0, policy="auto"))
    with pytest.raises(
        UserError, match=r"^--val-share 0.3, but single has \d+ validation nodes; leave it out$"
    ):
        trainer_of(World.single(), parts_folder("single", 1), CONFIG)


def test_some_nodes_are_taken_and_some_are_left(folders: dict[int, Path]) -> None:
    manifest = read_manifest(folders[1])
    for share, training, expected in ((1e-9, 20, 1), (0.25, 10, 2), (0.999, 20, 19), (0.5, 2, 1)):
        config = dataclasses.replace(CONFIG, val_share=share)
        assert validation_nodes(config, dataclasses.replace(manifest, num_train=training)) == expected
    with pytest.raises(
        UserError, match=r"--val-share 0.3 needs at least 2 training nodes, single has 1; name"
    ):
        validation_nodes(CONFIG, dataclasses.replace(manifest, num_train=1))
    for share in (1.0, -0.1):
        with pytest.raises(UserError, match=r"--val-share is .*, must be in \[0, 1\)"):
            TrainConfig(val_share=share)


def test_a_run_is_evaluated_on_the_same_nodes(folders: dict[int, Path], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=4, eval_every=1, metric="average-precision")
    with pytest.raises(UserError, match="has 0 validation nodes"):
        train_worker(folders[1], tmp_path / "run", dataclasses.replace(config, val_share=0.0))
    assert not (tmp_path / "run").exists()
    summary = train_worker(folders[1], tmp_path / "run", config)
    scores = evaluate_run(tmp_path / "run")
    assert (scores.val, scores.test) == (summary["val_score"], summary["test_score"])
    more = dataclasses.replace(config, resume=True, epochs=5)
    with pytest.raises(
        UserError, match=r"--val-share is 0.2, the run in .* was started with 0.3; resume with"
    ):
        train_worker(folders[1], tmp_path / "run", dataclasses.replace(more, val_share=0.2))
    assert train_worker(folders[1], tmp_path / "run", more)["epochs"] == 5


def test_it_is_said(folders: dict[int, Path]) -> None:
    part, said = with_validation(World.single(), open_part(folders[1], 0), CONFIG)
    taken, training = int((part.split == VAL).sum()), part.manifest.num_train
    assert said == [
        f"validation: {taken} of the {training} training nodes, drawn with seed 0 (--val-share 0.3)"
    ]
    assert (part.split == TEST).sum() == part.manifest.num_test
