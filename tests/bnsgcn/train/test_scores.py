"""Scores of shares are the scores of all nodes together, by their closed forms and by other libraries."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from bnsgcn.config import MetricName, TrainConfig
from bnsgcn.dist import World
from bnsgcn.train.counts import count
from bnsgcn.train.curves import area_under_roc, average_precision, log_odds
from bnsgcn.train.scores import chosen_metric, default_metric, score
from partition.errors import UserError
from partition.store import read_manifest
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

NODES = 3000
METRICS = get_args(MetricName)
TASKS = {"multi": 4, "single": 4, "two": 2}
"""Classes of each kind of task."""


def predictions(task: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, some of them tied and most of them saturated, and labels; the last class is rare."""
    generator = torch.Generator().manual_seed(1)
    classes = TASKS[task]
    logits = torch.randn(NODES, classes, generator=generator)
    logits[:, 1] = (10 * logits[:, 1]).round() / 10
    if task == "multi":
        chance = (0.8 * logits).sigmoid() * torch.tensor([1.0, 0.5, 0.2, 0.005])
        return logits, (torch.rand(NODES, classes, generator=generator) < chance).long()
    labels = torch.where(
        torch.rand(NODES, generator=generator) < 0.6,
        logits.argmax(1),
        torch.randint(0, classes, (NODES,), generator=generator),
    )
    if task == "single":
        rare = torch.rand(NODES, generator=generator) < 0.01
        labels = torch.where((labels == classes - 1) & ~rare, 0, labels)
    return 30 * logits, labels


def by_scikit_learn(metric: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    from sklearn import metrics

    truth, single, scores = labels.numpy(), labels.dim() == 1, logits.double().numpy()
    said = logits.argmax(1).numpy() if single else (logits > 0).long().numpy()
    if metric == "accuracy":
        return float(metrics.accuracy_score(truth, said))
    if metric.endswith("f1"):
        return float(metrics.f1_score(truth, said, average=metric.removesuffix("-f1"), zero_division=0))
    score_of = metrics.roc_auc_score if metric == "roc-auc" else metrics.average_precision_score
    if not single:
        return float(score_of(truth, scores, average="macro"))
    if logits.shape[1] == 2:
        return float(score_of(truth, scores[:, 1] - scores[:, 0]))
    others = np.array([np.logaddexp.reduce(np.delete(scores, c, axis=1), axis=1) for c in range(4)]).T
    # The one-vs-rest that scikit-learn takes from probabilities, which would saturate here.
    return float(np.mean([score_of(truth == c, (scores - others)[:, c]) for c in range(4)]))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_scikit_learn(metric: Any, task: str) -> None:
    logits, labels = predictions(task)
    expected = by_scikit_learn(metric, logits, labels)
    assert 0.05 < expected < 0.97
    assert score(World.single(), metric, logits, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["roc-auc", "average-precision"])
def test_scores_from_probabilities_are_those_of_scikit_learn(metric: Any) -> None:
    """Where nothing saturates, one against the rest is what scikit-learn makes of softmax's rows."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    logits, labels = predictions("single")
    logits = logits / 30
    probability = logits.double().softmax(1).numpy()
    if metric == "roc-auc":
        expected = roc_auc_score(labels.numpy(), probability, multi_class="ovr")
    else:
        expected = average_precision_score(labels.numpy(), probability)
    assert score(World.single(), metric, logits, labels) == pytest.approx(expected, abs=1e-9)


def score_of_share(world: World, metric: Any, task: str, shares: list[slice]) -> float:
    logits, labels = predictions(task)
    rows = shares[world.rank]
    return score(world, metric, logits[rows], labels[rows])


def scores_of_share(world: World, shares: list[slice]) -> list[float]:
    return [score_of_share(world, metric, task, shares) for task in TASKS for metric in METRICS]


@pytest.mark.multi
@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_count_as_the_whole(ranks: int, tmp_path: Path) -> None:
    alone = scores_of_share(World.single(), [slice(None)])
    shares = [slice(0, 101), slice(101, 101), slice(101, NODES)]  # the second rank has no node
    shares = shares if ranks == 3 else [slice(0, 1999), slice(1999, NODES)]
    found = run_ranks(scores_of_share, ranks, tmp_path, shares, timeout_s=150)
    assert found == [alone] * ranks  # bitwise: what is kept as the best must not depend on it


def test_the_mean_of_the_ranks_scores_would_be_noticed() -> None:
    shares = [slice(0, 100), slice(100, NODES)]
    for metric in ("micro-f1", "macro-f1", "roc-auc", "average-precision"):
        parts = [score_of_share(World.single(), metric, "multi", [share]) for share in shares]
        whole = by_scikit_learn(metric, *predictions("multi"))
        assert abs(sum(parts) / 2 - whole) > 1e-4


def by_torchmetrics(metric: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    from torchmetrics import classification

    if metric == "accuracy":
        counter: Any = classification.MulticlassAccuracy(num_classes=4, average="micro")
        return float(counter(logits.argmax(1), labels))
    if metric == "micro-f1":
        return float(
            classification.MultilabelF1Score(num_labels=4, average="micro")(logits.sigmoid(), labels)
        )
    return float(classification.MultilabelAUROC(num_labels=4)(logits.sigmoid(), labels))


@pytest.mark.parametrize("metric", ["accuracy", "micro-f1", "roc-auc"])
def test_scores_are_those_of_torchmetrics(metric: Any) -> None:
    logits, labels = predictions("single" if metric == "accuracy" else "multi")
    expected = by_torchmetrics(metric, logits, labels)
    assert score(World.single(), metric, logits, labels) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_no_nodes_at_all_have_no_score(metric: Any) -> None:
    for labels in (torch.zeros(0).long(), torch.zeros(0, 4).long()):
        assert math.isnan(score(World.single(), metric, torch.zeros(0, 4), labels))


@pytest.mark.parametrize("metric", ["roc-auc", "average-precision"])
def test_a_class_without_positives_or_negatives_is_left_out_of_the_curves(metric: Any) -> None:
    logits, labels = predictions("multi")
    labels[:, 1], labels[:, 3] = 0, 1
    expected = by_scikit_learn(metric, logits[:, ::2], labels[:, ::2])
    assert score(World.single(), metric, logits, labels) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(score(World.single(), metric, logits[:, 1:2], labels[:, 1:2]))


def test_classes_that_nobody_has_or_predicts_are_those_of_scikit_learn() -> None:
    """One label: left out of the mean. Several: their F1 of 0 counts."""
    from sklearn.metrics import f1_score

    logits, labels = torch.eye(4)[[0, 1, 1, 3, 3]], torch.tensor([0, 1, 0, 3, 1])
    expected = f1_score(labels, logits.argmax(1), average="macro")
    assert score(World.single(), "macro-f1", logits, labels) == pytest.approx(expected, abs=1e-15)
    several = torch.eye(4)[labels].long()
    expected = f1_score(several, logits > 0, average="macro", zero_division=0)
    assert score(World.single(), "macro-f1", logits, several) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("task", TASKS)
def test_the_table_by_class_is_that_of_scikit_learn(task: str) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    logits, labels = predictions(task)
    said = logits.argmax(1) if labels.dim() == 1 else logits > 0
    expected = np.array(precision_recall_fscore_support(labels, said, zero_division=0)).T
    found = count(World.single(), logits, labels).by_class()
    assert [row.label for row in found] == list(range(TASKS[task]))
    table = np.array([[row.precision, row.recall, row.f1, row.support] for row in found])
    np.testing.assert_allclose(table, expected, atol=1e-12)


def hard_scores(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores on which binned curves fail."""
    rng = np.random.default_rng(3)
    truth = rng.random(5000) < {"rare": 0.002, "saturated": 0.3, "tied": 0.2}[kind]
    values = rng.standard_normal(5000) + 1.5 * truth
    if kind == "saturated":
        values = values + 20.0  # every probability is 1 to three digits
    return np.round(values, 1) if kind == "tied" else values, truth


@pytest.mark.parametrize("metric", ["roc-auc", "average-precision"])
@pytest.mark.parametrize("kind", ["rare", "saturated", "tied"])
def test_curves_are_those_of_scikit_learn(kind: str, metric: Any) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    values, truth = hard_scores(kind)
    by_them = roc_auc_score if metric == "roc-auc" else average_precision_score
    logits = torch.from_numpy(values).float()[:, None]
    found = score(World.single(), metric, logits, torch.from_numpy(truth).long()[:, None])
    assert found == pytest.approx(by_them(truth, values.astype(np.float32)), abs=1e-12)
    assert found == pytest.approx(by_them(truth, values), abs=1e-5)
    if kind == "tied":
        assert len(np.unique(values)) < 100


@pytest.mark.parametrize("curve", [area_under_roc, average_precision])
def test_bins_would_be_noticed(curve: Any) -> None:
    """The negative control: a thousand thresholds over probabilities, on scores that saturate."""
    values, truth = hard_scores("saturated")
    probability = 1 / (1 + np.exp(-values))
    binned = np.searchsorted(np.linspace(0, 1, 1001), probability)
    assert curve(values, truth) - curve(binned.astype(np.float64), truth) > 0.2


def test_log_odds_do_not_saturate() -> None:
    logits = torch.tensor([[600.0, 0.0, -1.0], [601.0, 0.0, -1.0], [0.1, 0.2, 0.3]])
    odds = log_odds(logits)
    assert float(odds[1, 0] - odds[0, 0]) == pytest.approx(1.0, abs=1e-12)
    expected = logits[2].double().softmax(0).logit()
    torch.testing.assert_close(odds[2], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("curve", [area_under_roc, average_precision])
def test_a_nan_has_no_area(curve: Any) -> None:
    assert math.isnan(curve(np.array([0.1, np.nan, 0.3]), np.array([True, False, False])))


def test_scoring_imports_no_plotting_library() -> None:
    """A notebook sets MPLBACKEND to one that a worker's environment may lack."""
    check = (
        "import sys, torch\n"
        "from bnsgcn.dist import World\n"
        "from bnsgcn.train.scores import score\n"
        "for metric in sys.argv[1:]:\n"
        "    score(World.single(), metric, torch.randn(3, 3), torch.eye(3).long())\n"
        "assert not {'matplotlib', 'torchmetrics', 'sklearn'} & set(sys.modules)"
    )
    environment = os.environ | {"MPLBACKEND": "module://nowhere.backend"}
    subprocess.run([sys.executable, "-c", check, *METRICS], check=True, env=environment)


def test_the_task_decides_the_metric_if_nobody_else_does(parts_folder: PartsFolder) -> None:
    assert default_metric("single", "npz:x") == "accuracy"
    assert default_metric("multi", "npz:x") == "micro-f1"
    assert default_metric("multi", "ogb:ogbn-proteins") == "roc-auc"
    manifest = read_manifest(parts_folder("multi", 1))
    assert chosen_metric(TrainConfig(), manifest) == (
        "micro-f1",
        "metric: micro-f1, the default for several labels a node (--metric chooses another)",
    )
    given = chosen_metric(TrainConfig(metric="macro-f1"), manifest)
    assert given == ("macro-f1", "metric: macro-f1")


@pytest.mark.parametrize("metric", ["roc-auc", "average-precision"])
def test_a_curve_of_one_class_is_one_line(metric: Any, parts_folder: PartsFolder) -> None:
    alone = dataclasses.replace(read_manifest(parts_folder("single", 1)), num_classes=1)
    with pytest.raises(UserError, match=f"--metric {metric} needs at least 2 classes, single has 1; take"):
        chosen_metric(TrainConfig(metric=metric), alone)
