"""Pages in headless Chromium: a quiet console, nothing asked of a network, everything in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bnsgcn.record.run_folder import RunFolder
from launch.options import Report
from launch.report.making import make_report
from partition.store import read_manifest
from tests.launch.report.chromium import Chromium, Page, chromium_path
from tests.launch.report.made_runs import made_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chromium_path() is None, reason="Chromium is not installed (apt-get install chromium)"
    ),
]

SIZES = """[...document.querySelectorAll('figure')].map(figure => {
    const seen = [...figure.querySelectorAll('svg')].filter(svg => svg.getClientRects().length)
    const box = seen[0].getBoundingClientRect(), frame = figure.getBoundingClientRect()
    const texts = [...seen[0].querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()])
    return {name: figure.id, seen: seen.length, width: box.width, height: box.height,
            inside: box.left >= frame.left && box.right <= frame.right + 0.5,
            letters: Math.min(...texts.map(([words, b]) => b.height)),
            out: texts.filter(([words, b]) =>
                b.left < frame.left || b.right > frame.right || b.bottom > frame.bottom)}
})"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory, two_parts: Path) -> Path:
    """A page with every figure that there is."""
    folder = tmp_path_factory.mktemp("one")
    telemetry = {"telemetry_every": 5, "sampling_rate": 0.1, "pipeline": True}
    run = made_run(folder / "run", of=read_manifest(two_parts), parts_dir=two_parts, **telemetry)
    make_report(Report(runs=(run,), out=folder / "page.html"))
    return folder / "page.html"


@pytest.fixture(scope="module")
def many_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 runs of 3,000 epochs: 10 sets of options, 2 seeds each."""
    folder = tmp_path_factory.mktemp("many")
    for place in range(20):
        chosen = {"sampling_rate": 1 - place // 2 / 10, "seed": place % 2, "epochs": 3000, "eval_every": 5}
        made_run(folder / "runs" / f"run_{place}", **chosen)
    make_report(Report(runs=(folder / "runs",), out=folder / "page.html"))
    return folder / "page.html"


@pytest.mark.parametrize("page", ["one_run", "many_runs"])
def test_a_page_is_whole(browser: Chromium, page: str, request: pytest.FixtureRequest) -> None:
    """On wide and narrow screens, light and dark."""
    file = request.getfixturevalue(page)
    for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
        check_whole(browser.open(file, width=width, dark=dark), dark=dark)


def check_whole(shown: Page, *, dark: bool) -> None:
    assert shown.complaints == []
    assert len(shown.asked_for) == 1, "a page needs nothing but itself"
    assert shown.ask(OVERFLOW) <= 0
    figures = shown.ask(SIZES)
    assert len(figures) >= 5
    for figure in figures:
        assert figure["seen"] == 1, figure
        assert figure["width"] > 250, figure
        assert figure["height"] > 80, figure
        assert figure["inside"], figure
        assert figure["letters"] >= 11, figure
        assert figure["out"] == [], figure
    ground = shown.ask("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark, ground


def test_twenty_runs_of_three_thousand_epochs_open_at_once(browser: Chromium, many_runs: Path) -> None:
    assert many_runs.stat().st_size < 5e6
    busy = min(browser.open(many_runs, width=1280).busy_s for _ in range(2))
    assert 0 < busy < 2, busy


def test_on_paper_it_is_light_and_nothing_is_folded(browser: Chromium, one_run: Path) -> None:
    shown = browser.open(one_run, width=794, dark=True, media="print")
    ground = shown.ask("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert sum(map(int, ground[4:-1].split(","))) > 600, ground
    assert shown.ask("document.querySelector('details table').getBoundingClientRect().height") > 20
    for figure in shown.ask(SIZES):
        assert 11 <= figure["letters"] <= 18, "the size of letters on paper"


def test_the_browser_notices_what_is_wrong(browser: Chromium, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<body><div style='width:5000px'>x</div><script>console.error('no'); missing()</script>")
    shown = browser.open(bad, width=390)
    assert len(shown.complaints) == 2
    assert shown.ask(OVERFLOW) > 0


def test_a_run_that_goes_on_is_shown(browser: Chromium, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", done=3, ended=False)
    writer = RunFolder(run)
    writer.claim()
    make_report(Report(runs=(run,), out=tmp_path / "page.html"))
    writer.release()
    shown = browser.open(tmp_path / "page.html", width=390)
    assert shown.complaints == []
    assert "running, so far 3 of 40 epochs" in shown.ask("document.body.innerText")
