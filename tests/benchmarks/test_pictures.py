"""The pictures of the records are drawn from what the records hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import pictures
from benchmarks.measure import RESULTS
from launch.report.canvas import WIDE, svg_of


@pytest.mark.parametrize("name", [each for each in pictures.ALL if (RESULTS / f"{each}.json").exists()])
def test_every_picture_says_a_figure_in_its_title(name: str) -> None:
    chart = pictures.ALL[name]()
    assert (chart.name, (RESULTS / f"{name}.png").exists()) == (name, True)
    assert any(letter.isdigit() for letter in chart.title)
    assert svg_of(chart, WIDE).count("<text") > 8


def test_a_picture_is_a_file_of_few_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "RESULTS", tmp_path)
    run = {"graph": "g", "seed": 0, "sent_bytes_per_epoch": 8e6}
    runs = [run | {"cut": "metis:2", "method": "exact", "test": 0.9}]
    runs += [run | {"cut": "metis:2", "method": "pipeline", "test": 0.87, "sent_bytes_per_epoch": 4e6}]
    chart = pictures.scores_picture(runs, "accuracy")
    assert chart.title.endswith("the pipeline 3.0")
    assert "50 % of the bytes" in svg_of(chart, WIDE)
    assert pictures.save(chart) == "accuracy.png"
    assert (tmp_path / "accuracy.png").stat().st_size < 60_000
