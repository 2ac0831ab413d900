"""Triton's kernels on the GPU, under the marker `gpu`, or on CPU by Triton's interpreter where there is none.

tests/conftest.py switches the interpreter on before anything imports Triton: a process has one or the other.
The interpreter computes with NumPy, which warns where a device does not.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch

from bnsgcn.kernels import Kernels, select


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    pytest.importorskip("triton")
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    backend = importlib.import_module("bnsgcn.kernels.triton.triton_backend")
    if (request.param == "cpu") != backend.INTERPRETED:
        pytest.skip("there is a CUDA device: kernels are not interpreted")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def kernels(device: torch.device) -> Kernels:
    return select("triton", device)


@pytest.fixture(scope="session")
def reference() -> Kernels:
    return select("torch")


@pytest.fixture(params=["plain", "split", "wide"])
def way(request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> str:
    """How rows are summed: whole, in segments of 4 arcs, with places of entries as int64."""
    from bnsgcn.kernels.triton import row_schedule, tiles

    if request.param == "split":
        monkeypatch.setattr(row_schedule, "longest_segment", lambda rows, arcs: 4)
    if request.param == "wide":
        monkeypatch.setattr(tiles, "INT32_MAX", 0)
    return str(request.param)


@pytest.fixture(autouse=True)
def silent_numpy() -> Iterator[None]:
    import numpy as np

    with np.errstate(all="ignore"):
        yield
