"""Fixtures of the runtime's tests."""

from __future__ import annotations

import pytest

from bnsgcn.kernels import select
from tests.bnsgcn.small_graphs import PartsFolder, folder_maker


@pytest.fixture(scope="session", autouse=True)
def _kernels_compiled() -> None:
    """Compile before any rank's deadline runs; later processes find the result on disk."""
    select("auto")


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> PartsFolder:
    """parts_folder(kind, parts, method="random"): a small graph's parts on disk."""
    return folder_maker(tmp_path_factory.mktemp("parts"))
