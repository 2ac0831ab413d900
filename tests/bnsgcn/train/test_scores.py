"""Scores of shares are the scores of all nodes together, by their closed forms and by other libraries."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnsgcn.dist import World
from bnsgcn.train.scores import area_under_roc, default_metric, score
from tests.multiprocess import run_ranks

NODES, CLASSES = 3000, 4


def predictions(multi: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(NODES, CLASSES, generator=generator)
    if not multi:
        labels = torch.where(
            torch.rand(NODES, generator=generator) < 0.6,
            logits.argmax(1),
            torch.randint(0, CLASSES, (NODES,), generator=generator),
        )
        return logits, labels
    chance = (0.8 * logits).sigmoid() * torch.tensor([1.0, 0.5, 0.2, 0.05])
    return logits, (torch.rand(NODES, CLASSES, generator=generator) < chance).long()


def exact_auroc(values: np.ndarray, labels: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order, from ranks."""
    order = values.argsort().argsort() + 1
    positives = int(labels.sum())
    negatives = labels.size - positives
    return float((order[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def by_formula(metric: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    if metric == "accuracy":
        return float((logits.argmax(1) == labels).double().mean())
    if metric == "micro_f1":
        said = logits > 0
        hits = int((said & (labels == 1)).sum())
        return 2 * hits / (int(said.sum()) + int(labels.sum()))
    areas = [exact_auroc(logits[:, c].numpy(), labels[:, c].numpy()) for c in range(labels.shape[1])]
    return sum(areas) / len(areas)


def score_of_share(world: World, metric: Any, shares: list[slice]) -> float:
    logits, labels = predictions(metric != "accuracy")
    rows = shares[world.rank]
    return score(world, metric, logits[rows], labels[rows])


@pytest.mark.multi
@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "roc_auc"])
def test_shares_count_as_the_whole(metric: Any, tmp_path: Path) -> None:
    expected = by_formula(metric, *predictions(metric != "accuracy"))
    assert 0.3 < expected < 0.95
    alone = score_of_share(World.single(), metric, [slice(None)])
    assert alone == pytest.approx(expected, abs=1e-12)
    shares = [slice(0, 100), slice(100, 100), slice(100, NODES)]  # the second rank has no node
    found = run_ranks(score_of_share, 3, tmp_path, metric, shares, timeout_s=150)
    assert found == [alone] * 3  # bitwise: what is kept as the best must not depend on it


def by_torchmetrics(metric: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    from torchmetrics import classification

    if metric == "accuracy":
        counter: Any = classification.MulticlassAccuracy(num_classes=CLASSES, average="micro")
        return float(counter(logits.argmax(1), labels))
    if metric == "micro_f1":
        return float(
            classification.MultilabelF1Score(num_labels=CLASSES, average="micro")(logits.sigmoid(), labels)
        )
    return float(classification.MultilabelAUROC(num_labels=CLASSES)(logits.sigmoid(), labels))


@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "roc_auc"])
def test_scores_are_those_of_torchmetrics(metric: Any) -> None:
    logits, labels = predictions(metric != "accuracy")
    expected = by_torchmetrics(metric, logits, labels)
    assert score(World.single(), metric, logits, labels) == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_the_ranks_scores_would_be_noticed() -> None:
    shares = [slice(0, 100), slice(100, NODES)]
    parts = [score_of_share(World.single(), "micro_f1", [share]) for share in shares]
    assert abs(sum(parts) / 2 - by_formula("micro_f1", *predictions(True))) > 1e-3


@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "roc_auc"])
def test_no_nodes_at_all_have_no_score(metric: Any) -> None:
    labels = torch.zeros(0, dtype=torch.int64) if metric == "accuracy" else torch.zeros(0, CLASSES).long()
    assert math.isnan(score(World.single(), metric, torch.zeros(0, CLASSES), labels))


def test_a_class_without_positives_or_negatives_is_left_out_of_the_area() -> None:
    logits, labels = predictions(True)
    labels[:, 1], labels[:, 3] = 0, 1
    expected = by_formula("roc_auc", logits[:, ::2], labels[:, ::2])
    assert score(World.single(), "roc_auc", logits, labels) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(score(World.single(), "roc_auc", logits[:, 1:2], labels[:, 1:2]))


def hard_scores(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores on which binned curves fail."""
    rng = np.random.default_rng(3)
    truth = rng.random(5000) < {"rare": 0.002, "saturated": 0.3, "tied": 0.2}[kind]
    values = rng.standard_normal(5000) + 1.5 * truth
    if kind == "saturated":
        values = values + 20.0  # every probability is 1 to three digits
    return np.round(values, 1) if kind == "tied" else values, truth


@pytest.mark.parametrize("kind", ["rare", "saturated", "tied"])
def test_areas_are_those_of_scikit_learn(kind: str) -> None:
    from sklearn.metrics import roc_auc_score

    values, truth = hard_scores(kind)
    expected = roc_auc_score(truth, values)
    logits = torch.from_numpy(values).float()[:, None]
    found = score(World.single(), "roc_auc", logits, torch.from_numpy(truth).long()[:, None])
    assert found == pytest.approx(roc_auc_score(truth, values.astype(np.float32)), abs=1e-12)
    assert found == pytest.approx(expected, abs=1e-6)
    if kind == "tied":
        assert len(np.unique(values)) < 100


def test_bins_would_be_noticed() -> None:
    """The negative control: a thousand thresholds over probabilities, on scores that saturate."""
    values, truth = hard_scores("saturated")
    probability = 1 / (1 + np.exp(-values))
    binned = np.searchsorted(np.linspace(0, 1, 1001), probability)
    exact = area_under_roc(values, truth)
    assert exact - area_under_roc(binned.astype(np.float64), truth) > 0.2


def test_a_nan_has_no_area() -> None:
    assert math.isnan(area_under_roc(np.array([0.1, np.nan, 0.3]), np.array([True, False, False])))


@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "roc_auc"])
def test_scoring_imports_no_plotting_library(metric: str) -> None:
    """A notebook sets MPLBACKEND to one that a worker's environment may lack."""
    check = (
        "import sys, torch\n"
        "from bnsgcn.dist import World\n"
        "from bnsgcn.train.scores import score\n"
        "labels = torch.zeros(3).long() if sys.argv[1] == 'accuracy' else torch.eye(3).long()\n"
        "score(World.single(), sys.argv[1], torch.randn(3, 3), labels)\n"
        "assert not {'matplotlib', 'torchmetrics'} & set(sys.modules)"
    )
    environment = os.environ | {"MPLBACKEND": "module://nowhere.backend"}
    subprocess.run([sys.executable, "-c", check, metric], check=True, env=environment)


def test_the_task_decides_the_metric() -> None:
    assert default_metric("single", "npz:x") == "accuracy"
    assert default_metric("multi", "npz:x") == "micro_f1"
    assert default_metric("multi", "ogb:ogbn-proteins") == "roc_auc"
