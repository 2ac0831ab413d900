"""Every kernel test runs on every backend that works here."""

from __future__ import annotations

import pytest

from bnsgcn.kernels import Kernels, select

_MADE: dict[str, Kernels] = {}


@pytest.fixture(params=["torch", "dgl", "compiled"], scope="session")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    name = request.param
    if name not in _MADE:
        try:
            _MADE[name] = select(name)
        except ValueError as error:
            pytest.skip(str(error))
    return _MADE[name]


@pytest.fixture(scope="session")
def compiled() -> Kernels:
    try:
        return select("compiled")
    except ValueError as error:
        pytest.skip(str(error))
