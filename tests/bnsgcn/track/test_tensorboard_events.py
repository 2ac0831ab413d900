"""Event files, read back by TensorBoard's own reader and byte by byte."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bnsgcn.small_graphs import PartsFolder
from tests.bnsgcn.track.tracked import CONFIG, curves, fitted, killed_and_resumed

pytest.importorskip("tensorboard")

EVENTS = dataclasses.replace(CONFIG, track="tensorboard")


def accumulated(run_dir: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()


def raw_scalars(run_dir: Path) -> Counter[tuple[str, int]]:
    """How often each step of each scalar stands in the files, for readers that purge nothing."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return Counter(
        (value.tag, event.step)
        for path in (run_dir / "tensorboard").iterdir()
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if not value.tag.startswith("_")
    )


def test_killed_and_resumed_the_curves_are_those_of_the_lines(
    parts_folder: PartsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = killed_and_resumed(parts_folder("single", 1), tmp_path, EVENTS, monkeypatch)
    found, lines = accumulated(tmp_path), curves(tmp_path)
    for name, points in lines.items():
        scalars = found.Scalars(name)
        assert [event.step for event in scalars] == [epoch for epoch, _ in points], name
        assert [event.value for event in scalars] == pytest.approx(
            [value for _, value in points], nan_ok=True
        )
        times = [event.wall_time for event in scalars]
        assert times == sorted(times)
        assert len(set(times)) == len(times), "epochs keep the time at which they were written"
    assert set(raw_scalars(tmp_path).values()) == {1}, "nothing is there twice"
    assert found.Scalars("final/test_score")[0].value == pytest.approx(summary["test_score"])


def test_the_options_are_there_as_text_and_as_hyperparameters(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    summary = fitted(parts_folder("single", 1), tmp_path, EVENTS)
    found = accumulated(tmp_path)
    (text,) = found.Tensors("config/text_summary")
    assert '"hidden": 8' in text.tensor_proto.string_val[0].decode()
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["hidden"].number_value == 8
    assert start.hparams["model"].string_value == "sage"
    assert found.Scalars("final/val_score")[0].value == pytest.approx(summary["val_score"])


def test_a_run_that_is_over_stays_as_it_is(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder = parts_folder("single", 1)
    fitted(folder, tmp_path, EVENTS)
    before = raw_scalars(tmp_path)
    fitted(folder, tmp_path, dataclasses.replace(EVENTS, resume=True))
    assert raw_scalars(tmp_path) == before
    fitted(folder, tmp_path, dataclasses.replace(EVENTS, resume=True, epochs=14))
    assert [event.step for event in accumulated(tmp_path).Scalars("final/val_score")] == [14]


def test_it_is_imported_where_it_is_asked_for_alone(parts_folder: PartsFolder, tmp_path: Path) -> None:
    """In a fresh interpreter, the way that a worker comes to it."""
    import subprocess

    check = (
        "import sys\n"
        "from pathlib import Path\n"
        "from bnsgcn.config import TrainConfig\n"
        "from bnsgcn.track.choice import followers\n"
        "followers(Path('run'), TrainConfig(track='tensorboard,csv'), 'face')\n"
        "assert not {'tensorboard', 'mlflow', 'wandb', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path)
    assert not any(tmp_path.iterdir()), "nothing is written before the run begins"
