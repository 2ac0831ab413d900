"""Fixtures of the runtime's tests."""

from __future__ import annotations

import pytest

from tests.bnsgcn.small_graphs import PartsFolder, folder_maker


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> PartsFolder:
    """parts_folder(kind, parts, method="random"): a small graph's parts on disk."""
    return folder_maker(tmp_path_factory.mktemp("parts"))
