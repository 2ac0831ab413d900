"""Fixtures of the command's tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.driver import Unable
from tests.launch.hosts import Host, joined_hosts
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


@pytest.fixture
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two namespaces joined by a veth."""
    with contextlib.ExitStack() as stack:
        try:
            hosts = stack.enter_context(joined_hosts())
        except Unable as error:
            pytest.skip(str(error))
        yield hosts
