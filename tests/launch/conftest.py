"""Fixtures of the command's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.scene import Command, write_parts


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`bnsgcn`, watched: after every call no worker may be left."""
    return Command(capfd, monkeypatch)


@pytest.fixture(scope="session")
def two_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graph in two parts; read only."""
    return write_parts(tmp_path_factory.mktemp("parts") / "small")


@pytest.fixture(scope="session")
def three_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another small graph in three parts; read only."""
    return write_parts(tmp_path_factory.mktemp("parts") / "other", parts=3, seed=1)
