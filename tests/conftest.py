"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("DGLBACKEND", "pytorch")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import torch

if not torch.cuda.is_available():
    # read when Triton is imported, which torch may do at any time
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent
# A machine that does other things is slow, and a test that fails must fail again.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


def pytest_configure() -> None:
    """Let SIGINT end what it is sent to: a shell's job in the background begins with it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="CUDA"))


@pytest.fixture
def real_graphs() -> Path:
    """The folder with the real graphs beside the checkout; the test is skipped where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with the real graphs is not here")
    return folder


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Whatever ran before."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _workers_are_forked() -> Iterator[None]:
    """Workers that this process starts begin with torch imported: a second of CPU less for each."""
    from bnsgcn.workers import crew
    from tests import forked

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            crew, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": forked.start_worker})
        )
        yield


@pytest.fixture
def fresh_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are programs of their own, as everywhere else: for tests that are about their start or end."""
    from bnsgcn.workers import crew

    monkeypatch.setattr(crew, "subprocess", subprocess)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
