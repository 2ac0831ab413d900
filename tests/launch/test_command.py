"""The command from end to end: partition, inspect, train, evaluate, predict, resume."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from bnsgcn.config import TrainConfig
from bnsgcn.record.run_folder import RunFolder
from launch import doctor
from tests.launch.scene import NODES, Command, write_graph, write_parts

SMALL = ("--layers", "2", "--hidden", "16", "--epochs", "30", "--dropout", "0.1")
SUMMARY_KEYS = {
    "metric", "val_score", "test_score", "best_epoch", "epochs", "final_loss", "epoch_s_median",
    "compute_s_median", "halo_wait_s_median", "reduce_s_median", "sent_bytes_per_epoch", "peak_rss_bytes",
    "parts", "config",
}  # fmt: skip


@pytest.mark.multi
def test_from_a_graph_to_a_score(command: Command, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "small.npz")
    run_dir = tmp_path / "run"
    given = ("train", f"npz:{graph}", "--run-dir", run_dir, "--cache-dir", tmp_path / "cache", *SMALL)
    ended = command(*given)
    assert (ended.status, ended.err) == (0, ""), ended
    assert "starting 2 workers" in ended.out
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["test_score"] > 0.8
    assert f"test accuracy {summary['test_score']:.4f}" in ended.out
    assert f"evaluate    bnsgcn evaluate {run_dir}" in ended.out
    best = run_dir / "checkpoints" / f"epoch_{summary['best_epoch'] + 1:06d}"
    assert f"checkpoint  {best}" in ended.out
    assert best.is_dir()
    lines = RunFolder(run_dir).metrics()
    assert [line["epoch"] for line in lines] == list(range(30))
    assert len((run_dir / "rank_1.jsonl").read_text().splitlines()) == 30
    assert len(list((tmp_path / "cache").glob("small*"))) == 1

    scores = command("evaluate", run_dir, "--json")
    assert scores.err == ""
    assert json.loads(scores.out) == {
        "metric": "accuracy",
        "val_score": summary["val_score"],
        "test_score": summary["test_score"],
    }
    ended = command("predict", run_dir, "--out", tmp_path / "logits.npy")
    assert ended.status == 0
    logits = np.load(tmp_path / "logits.npy")
    label = np.load(graph)["label"]
    assert logits.shape == (NODES, 3)
    assert (logits[180:].argmax(1) == label[180:]).mean() == pytest.approx(summary["test_score"])

    table = json.loads(command("evaluate", run_dir, "--per-class", "--json").out)["per_class"]
    expected = precision_recall_fscore_support(label[180:], logits[180:].argmax(1), zero_division=0)
    assert [row["class"] for row in table] == [0, 1, 2]
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in table] == pytest.approx(values.tolist(), abs=1e-12)
    shown = command("evaluate", run_dir, "--per-class").out.splitlines()
    assert [line.split()[0] for line in shown] == ["test", "class", "0", "1", "2", "mean"]
    assert shown[-1].split()[-1] == "60"

    ended = command(*given)
    assert "holds a run already; add --resume or name a new folder" in ended.mistake()
    ended = command(*given, "--resume", "--epochs", "40")
    assert ended.status == 0
    assert "reading" not in ended.out, "the cut graph is used again"
    assert "going on at epoch 30" in ended.out
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(40))
    again = command(*given, "--resume", "--epochs", "40")
    assert again.status == 0
    whole = json.loads((run_dir / "summary.json").read_text())
    assert whole["epochs"] == 40
    assert whole["epoch_s_median"] > 0, "a run that is done already keeps its figures"


@pytest.mark.multi
def test_predict_some_nodes_of_a_grown_graph(command: Command, two_parts: Path, tmp_path: Path) -> None:
    """Nothing but the file is left; what does not fit is one line."""
    run_dir, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    assert command("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "2").status == 0
    old = dict(np.load(two_parts.with_suffix(".npz")))
    grown = old | {
        "edge_index": np.concatenate([old["edge_index"], [[NODES, NODES], [3, 5]]], axis=1),
        "feat": np.concatenate([old["feat"], old["feat"][:1]]),
        "label": np.append(old["label"], 0),
    }
    np.savez(tmp_path / "grown.npz", **grown)
    source = ("--source", f"npz:{tmp_path / 'grown.npz'}")
    ended = command("predict", run_dir, *source, "--out", out / "all.npy")
    assert (ended.status, ended.err) == (0, "")
    assert f"1 new nodes join the parts of {two_parts}" in ended.out
    ended = command("predict", run_dir, *source, "--nodes", f"{NODES},3", "--out", out / "some.npy")
    assert "float32 logits of 2 nodes, 3 classes" in ended.out
    whole = np.load(out / "all.npy")
    assert whole.shape == (NODES + 1, 3)
    assert np.allclose(np.load(out / "some.npy"), whole[[NODES, 3]], atol=1e-6)
    command("predict", run_dir, "--embeddings", "-2", "--out", out / "hidden.parquet")
    files = sorted(path.name for path in (out / "hidden.parquet").iterdir())
    assert files == ["part-00000.parquet", "part-00001.parquet"]

    def mistake(*arguments: str | Path) -> str:
        said = command("predict", run_dir, "--out", out / "more.npy", *arguments).mistake()
        assert sorted(path.name for path in out.iterdir()) == ["all.npy", "hidden.parquet", "some.npy"]
        return said

    assert "1 of 1 are out of range, the first is 240" in mistake("--nodes", str(NODES))
    assert "the model has 2 layers; use 0 to 1, or -2 to -1" in mistake("--embeddings", "2")
    assert "does not end in .parquet" in mistake("--format", "parquet")
    np.savez(tmp_path / "wide.npz", **(old | {"feat": old["feat"][:, :5]}))
    wide = f"npz:{tmp_path / 'wide.npz'}"
    assert f"{wide} has 5 features a node, the run was trained on 8" in mistake("--source", wide)
    directed = f"npz:{two_parts.with_suffix('.npz')},directed=true"
    assert "was trained on an undirected graph; leave out directed=true" in mistake("--source", directed)


@pytest.mark.multi
def test_predict_on_a_full_disk(command: Command, two_parts: Path, small_disk: Path, tmp_path: Path) -> None:
    """Said before anything is computed; the launcher's one line, and nothing is left."""
    assert command("train", two_parts, "--run-dir", tmp_path / "run", *SMALL, "--epochs", "2").status == 0
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    said = command("predict", tmp_path / "run", "--out", small_disk / "logits.npy").mistake()
    assert "No space left on device: 240 rows of 3 take 0.0 MB, but 0.0 MB are free" in said
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.multi
@pytest.mark.parametrize(("model", "parts"), [("gcn", 3), ("gat", 1)])
def test_multi_label_inductive(model: str, parts: int, command: Command, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "multi", parts, multi=True)
    run_dir = tmp_path / "run"
    ended = command("train", folder, "--run-dir", run_dir, *SMALL, "--model", model, "--inductive")
    assert (ended.status, ended.err) == (0, ""), ended
    assert f"starting {parts} worker" in ended.out
    assert "  metric: micro-f1, the default for several labels a node" in ended.out
    assert "test micro-f1" in ended.out
    assert json.loads((run_dir / "summary.json").read_text())["test_score"] > 0.7


@pytest.mark.multi
def test_options_come_from_a_file(command: Command, two_parts: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'source = "{two_parts}"\nlayers = 2\nhidden = 8\nepochs = 3\neval-every = 1\n')
    given = ("train", "--config", file, "--run-dir", tmp_path / "run", "--epochs", "2")
    ended = command(*given, "--metric", "macro-f1")
    assert ended.status == 0, ended
    assert "  metric: macro-f1\n" in ended.out
    assert "test macro-f1" in command("evaluate", tmp_path / "run").out
    config = RunFolder(tmp_path / "run").open().config
    assert config == TrainConfig(layers=2, hidden=8, epochs=2, eval_every=1, metric="macro-f1")
    ended = command(*given, "--resume", "--metric", "roc-auc")
    expected = "--metric is roc-auc, the run in .* was started with macro-f1; resume with --metric macro-f1"
    assert re.match(expected, ended.mistake())
    assert "'micro_f1'; did you mean 'micro-f1'" in command(*given, "--metric", "micro_f1").mistake()


def test_partition_and_inspect(command: Command, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "small.npz")
    ended = command("partition", f"npz:{graph}", "--parts", "3", "--out", tmp_path / "parts", "--seed", "1")
    assert (ended.status, ended.err) == (0, ""), ended
    assert "worst/mean" in ended.out
    ended = command("inspect", tmp_path / "parts", "--json")
    quality = json.loads(ended.out)
    assert quality["parts"] == 3
    assert quality.keys() >= {
        "num_nodes", "num_arcs", "parts", "edge_cut", "total_volume", "halo_per_node", "worst_over_mean",
        "per_part",
    }  # fmt: skip
    assert quality["worst_over_mean"].keys() >= {
        "send_rows",
        "recv_rows",
        "inner_nodes",
        "arcs",
        "train_nodes",
    }
    table = command("inspect", tmp_path / "parts").out
    assert max(len(line) for line in table.splitlines()) <= 80
    assert f"{quality['total_volume']:,} halo slots" in table


@pytest.mark.multi
def test_doctor(command: Command) -> None:
    ended = command("doctor")
    assert (ended.status, ended.err) == (0, ""), ended
    assert "rows intact" in ended.out
    assert "taken by --kernel auto" in ended.out
    assert command("--version").out.startswith("bnsgcn 0.")


def test_doctor_without_a_package(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-one", "dgl-2"))
    monkeypatch.setattr(doctor, "OPTIONAL", ("dgl-2",))
    ended = command("doctor")
    assert (ended.status, ended.err) == (1, "")
    assert "dgl-2            not installed (optional)" in ended.out
    assert ended.out.endswith("no-such-one missing: pip install no-such-one\n")


def test_plan(command: Command, two_parts: Path) -> None:
    ended = command("plan", two_parts, "--json")
    assert (ended.status, ended.err) == (0, ""), ended
    (plan,) = json.loads(ended.out)["plans"]
    assert plan["parts"] == 2
    assert plan["sent_bytes_per_epoch"] > 0
    assert "an epoch" in command("plan", two_parts).out
    ended = command("plan", two_parts, "--grid", "--link-gbit-s", "0.001")
    assert ended.out.count("<- take this") == 1
    assert max(len(line) for line in ended.out.splitlines()) <= 80
    assert len(json.loads(command("plan", two_parts, "--grid", "--json").out)["plans"]) == 27
    assert "a worker needs" in command("plan", two_parts, "--memory-gb", "0.001").mistake()
    assert "--link-gbit-s is 0, must be above 0" in command("plan", two_parts, "--link-gbit-s", "0").mistake()


def test_plan_after_a_rehearsal(command: Command, two_parts: Path) -> None:
    ended = command(
        "plan", two_parts, "--calibrate", "--json", "--layers", "2", "--hidden", "8", "--threads", "1"
    )
    assert (ended.status, ended.err) == (0, "rehearsing some epochs\n"), ended
    (plan,) = json.loads(ended.out)["plans"]
    assert plan["machine"]["compute_factor"] != 1
    assert 0 < plan["epoch_s"] < 60


def test_inspect_draws(command: Command, two_parts: Path, tmp_path: Path) -> None:
    assert command("inspect", two_parts, "--plot", tmp_path / "quality.png").status == 0
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_threads_beyond_the_machine_are_one_line_before_anything_is_done(
    command: Command, two_parts: Path, tmp_path: Path
) -> None:
    for call in (["train", "synthetic", "--run-dir", tmp_path / "run"], ["plan", two_parts]):
        mistake = command(*call, "--threads", "100000").mistake()
        assert mistake.startswith("--threads is 100000, this machine has "), mistake
    assert not (tmp_path / "run").exists()
