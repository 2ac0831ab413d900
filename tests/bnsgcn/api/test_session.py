"""One call from Python: workers that start themselves, results, own functions, and mistakes in one line."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import bnsgcn
from bnsgcn.dist import World
from bnsgcn.nn.models import GNN
from bnsgcn.train.trainer import Trainer
from bnsgcn.workers.outcome import WorkerFailure
from partition.errors import UserError
from partition.store import open_part
from tests.bnsgcn.api.small import (
    NODES,
    QUICK,
    TwoLayers,
    broken,
    doubled_loss,
    halved,
    small_graph,
    worst_class_recall,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def options(home: Path) -> dict[str, Any]:
    return QUICK | {"cache_dir": home / "cache"}


@pytest.fixture(scope="module")
def run(home: Path, options: dict[str, Any]) -> bnsgcn.Run:
    return bnsgcn.train(small_graph(), model="sage", run_dir=home / "run", **options)


@pytest.mark.multi
def test_a_run_says_what_came_out(run: bnsgcn.Run) -> None:
    assert run.test_score > 0.6
    assert run.metric == "accuracy"
    assert run.config.hidden == 8
    assert run.summary["parts"] == 2
    history = run.history
    assert history["epoch"].tolist() == list(range(6))
    assert np.isfinite(history["loss"]).all()
    assert np.isnan(history["val_score"]).tolist() == [True, False] * 3
    assert history["val_score"][run.best_epoch] == run.val_score
    frame = run.to_frame()
    assert frame["loss"].tolist() == history["loss"].tolist()
    scores = run.evaluate()
    assert (scores.val, scores.test) == (run.val_score, run.test_score)
    assert "accuracy" in repr(run)


@pytest.mark.multi
def test_the_model_at_work(run: bnsgcn.Run, options: dict[str, Any]) -> None:
    """Predictions of two workers are those of the model in this process, on a folder of one part."""
    logits, hidden = run.predict(), run.embeddings(-2)
    assert logits.shape == (NODES, 3)
    assert hidden.shape == (NODES, 8)
    assert np.array_equal(hidden, run.embeddings(0))
    assert np.array_equal(hidden, run.embeddings("between.0"))
    assert (hidden >= 0).all()
    few = [7, 3, 250]
    assert np.abs(run.predict(few) - logits[few]).max() < 1e-5
    grown = run.predict([NODES + 9, 2], graph=small_graph(NODES + 10))
    assert grown.shape == (2, 3)
    graph = small_graph()
    assert (logits.argmax(1) == graph.labels)[graph.split == 3].mean() == pytest.approx(run.test_score)
    model = run.model
    assert isinstance(model, GNN)
    whole = bnsgcn.train(graph, run_dir=None, **options | {"parts": 1, "epochs": 1})
    part = open_part(bnsgcn.RunFolder(whole.path).open().parts_dir, 0)
    trainer = Trainer(World.single(), part, model, run.config)
    alone = trainer.predict().numpy()
    assert np.abs(alone - logits[part.node_ids]).max() < 1e-5


@pytest.mark.multi
def test_an_opened_run_is_the_same(run: bnsgcn.Run) -> None:
    again = bnsgcn.open_run(run.path)
    assert again.summary == run.summary
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, run.model.state_dict()[name])
    with pytest.raises(UserError, match="is no run folder"):
        bnsgcn.open_run(run.path / "checkpoints")


@pytest.mark.multi
def test_a_run_of_ones_own_functions(home: Path, options: dict[str, Any]) -> None:
    """All five, resumed, evaluated by the command too; and the loss is what was asked for."""
    own: dict[str, Any] = {
        "model": TwoLayers,
        "optimizer": functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9),
        "schedule": halved,
        "loss": doubled_loss,
        "metric": worst_class_recall,
    }
    folder = home / "own"
    bnsgcn.train(small_graph(), run_dir=folder, **options | own | {"epochs": 2})
    run = bnsgcn.train(small_graph(), run_dir=folder, resume=True, **options | own)
    plain = bnsgcn.train(small_graph(), model=TwoLayers, **options)
    assert run.history["loss"][0] == pytest.approx(2 * plain.history["loss"][0], rel=1e-6)
    assert run.history["epoch"].size == 6
    assert run.metric == "worst_class_recall"
    assert isinstance(run.model, TwoLayers)
    logits, graph = run.predict(), small_graph()
    chosen = graph.split == 3
    expected = worst_class_recall(torch.from_numpy(logits[chosen]), torch.from_numpy(graph.labels[chosen]))
    assert run.test_score == pytest.approx(expected)
    assert run.embeddings(0).shape == (NODES, 8)
    with pytest.raises(UserError, match="layer 3 of a model with 3, its logits included; use 0 to 2"):
        run.embeddings(3)
    with pytest.raises(UserError, match=r"loss of your own is none, the run in .* with .*doubled"):
        bnsgcn.train(small_graph(), run_dir=folder, resume=True, **options | own | {"loss": None})


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"hiden": 3}, r"has no option 'hiden'; did you mean 'hidden'\?"),
    ({"smooth_decay": 0.95}, r"no option 'smooth_decay'; it is --smooth-window now, .*20 for 0\.95"),
    ({"parts": 0}, "--parts is 0, must be at least 1"),
    ({"parts": 1.5}, "--parts is 1.5, must be a whole number"),
    ({"parts": 9, "graph": 8}, "9 parts for 8 nodes: every part needs a node; use --parts 8 or fewer"),
    ({"layers": 0}, "--layers is 0, must be at least 1"),
    ({"model": "sagee"}, "--model has no choice 'sagee'; did you mean 'sage'"),
    ({"metric": "acuracy"}, "--metric has no choice 'acuracy'; did you mean 'accuracy'"),
    (
        {"model": lambda f, c, _: torch.nn.Linear(f, c)},
        "model is a lambda, which no worker can import",
    ),
    ({"model": torch.nn.Linear(3, 3)}, "model is a Linear, must be a function that every worker can import"),
    ({"optimizer": functools.partial(torch.optim.SGD, 3)}, "optimizer is a functools.partial of more than"),
    ({"optimizer": "sgd"}, "--optimizer has no choice 'sgd'; it has adam, adamw"),
    ({"schedule": halved, "warmup": 1}, "--warmup 1 and the schedule of your own: leave one out"),
    ({"loss": "mse"}, "loss is 'mse', must be a function"),
]


@pytest.mark.parametrize(
    ("given", "message"), MISTAKES, ids=lambda value: "" if isinstance(value, dict) else value[:40]
)
def test_mistakes_are_one_line(
    given: dict[str, Any], message: str, options: dict[str, Any], tmp_path: Path
) -> None:
    graph = small_graph(given.get("graph", NODES))
    changed = {name: value for name, value in given.items() if name != "graph"}
    with pytest.raises(UserError, match=message) as failure:
        bnsgcn.train(graph, run_dir=tmp_path / "run", **options | changed)
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("seeds", "given", "message"),
    [
        ([], {}, r"--seeds is '', must be seeds such as 0-9 or 0,3,7"),
        ("3-1", {}, "--seeds is '3-1': 3-1 ends before it begins; write 1-3"),
        ([1, 1], {}, "--seeds is '1,1': seed 1 is there twice; name it once"),
        ([-1], {}, "--seeds is '-1', must be seeds"),
        ([1, 2], {"seed": 3}, "--seed 3 and --seeds 1...: give one of the two"),
        ([1, 2], {"hiden": 3}, "has no option 'hiden'; did you mean 'hidden'"),
        ([1, 2], {"model": lambda f, c, _: torch.nn.Linear(f, c)}, "model is a lambda"),
    ],
)
def test_mistakes_about_seeds_are_one_line(
    seeds: Any, given: dict[str, Any], message: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        bnsgcn.train_seeds(small_graph(), seeds, run_dir=tmp_path / "runs", **options | given)
    with pytest.raises(UserError, match=r"has no seeds.json .*; train there with --seeds first"):
        bnsgcn.SeedRuns(tmp_path / "runs")


def test_a_function_made_inside_another_is_one_line(options: dict[str, Any]) -> None:
    def build(features: int, classes: int, config: bnsgcn.TrainConfig) -> torch.nn.Module:
        return TwoLayers(features, classes, config)

    with pytest.raises(UserError, match=r"model build is made inside test_a_function.*put it into a file"):
        bnsgcn.train(small_graph(), model=build, **options)


@pytest.mark.multi
def test_a_model_that_no_worker_can_import(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there when the caller imports it, and gone when a worker does."""
    (tmp_path / "passing.py").write_text("def build(features, classes, config):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import passing  # type: ignore[import-not-found]

    (tmp_path / "passing.py").unlink()
    expected = r"model passing:build cannot be imported in a worker \(No module named 'passing'\)"
    with pytest.raises(UserError, match=expected) as failure:
        bnsgcn.train(small_graph(), model=passing.build, **options)
    assert "\n" not in str(failure.value)


@pytest.mark.multi
def test_a_failure_of_a_worker_brings_its_traceback(options: dict[str, Any]) -> None:
    with pytest.raises(
        WorkerFailure, match=r"rank . failed: ArithmeticError: 6 features are not 3"
    ) as failure:
        bnsgcn.train(small_graph(), model=broken, **options)
    assert failure.value.__cause__ is not None
    assert "small.py" in str(failure.value.__cause__)
    assert 'raise ArithmeticError(f"{features}' in str(failure.value.__cause__)


@pytest.mark.multi
def test_layers_that_are_not_there(run: bnsgcn.Run) -> None:
    with pytest.raises(UserError, match="--embeddings 7: the model has 2 layers; use 0 to 1, or -2 to -1"):
        run.embeddings(7)
    with pytest.raises(UserError, match=r"the model has no module 'convz.0'; did you mean 'convs.0'"):
        run.embeddings("convz.0")


@pytest.mark.multi
@pytest.mark.usefixtures("fresh_workers")
def test_an_interrupt_ends_all_workers(options: dict[str, Any], tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(bnsgcn.RunFolder(tmp_path / "run").metrics()) < 3:
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        bnsgcn.train(small_graph(), run_dir=tmp_path / "run", **options | {"epochs": 10**6})
    words = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not [each for each in words if "bnsgcn.workers.worker" in each]


SCRIPT = """
import sys, torch, bnsgcn
from bnsgcn.nn import SAGEConv

class Mine(torch.nn.Module):
    def __init__(self, features, classes, config):
        super().__init__()
        self.conv = SAGEConv(features, classes)

    def forward(self, hops, x):
        return self.conv(hops[0], x)

print("read")
source = "synthetic:nodes=300,degree=6,features=6,classes=3,communities=6"
run = bnsgcn.train(source, model=Mine, epochs=3, cache_dir=sys.argv[1], run_dir=sys.argv[2], **{more})
# One write: under torchrun two workers share the pipe.
sys.stdout.write(f"{type(run.model).__name__} {run.history['epoch'].size}\\n")
"""


def ran(script: Path, *words: str | Path, before: tuple[str, ...] = (sys.executable,)) -> str:
    done = subprocess.run(
        [*before, str(script), *map(str, words)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.multi
def test_a_script_needs_no_guard(tmp_path: Path, home: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{more}", "{'parts': 2}"))
    out = ran(script, home / "cache", tmp_path / "run")
    assert out.count("read\n") == 1
    assert "Mine on synthetic" in out, "the run shows itself"
    assert out.endswith("Mine 3\n")


@pytest.mark.multi
def test_under_torchrun_the_same_script_is_a_worker(tmp_path: Path, home: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{more}", "{'parts': 2, 'device': 'cpu'}"))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    out = ran(script, home / "cache", tmp_path / "run", before=torchrun)
    assert out.count("Mine 3\n") == 2
    assert bnsgcn.open_run(tmp_path / "run").summary["parts"] == 2


@pytest.mark.multi
def test_progress_reaches_a_redirected_output(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a notebook, whose output is no file that a worker could write to."""
    bnsgcn.train(small_graph(), **options | {"progress": True, "epochs": 2})
    out = capsys.readouterr().out
    assert "starting 2 workers" in out
    assert "sage on graph" in out
    assert "test accuracy" in out


def test_the_room_of_that_name_is_still_there() -> None:
    import bnsgcn.train.trainer

    assert bnsgcn.train.trainer.Trainer is Trainer
    assert callable(bnsgcn.train)
    check = textwrap.dedent("""
        import sys, bnsgcn
        assert callable(bnsgcn.train)
        assert not {"torch", "numpy", "partition"} & set(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", check], check=True)
