"""Which device and transport a worker takes, and the one line for what cannot work; CUDA is played here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from bnsgcn.device.place import common_backend, pick_backend, pick_device
from partition.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@contextlib.contextmanager
def machine(
    devices: int, workers: int = 1, rank: int = 0, *, fails: str = "", nccl: bool = True
) -> Iterator[None]:
    """A machine with so many CUDA devices and workers, whose CUDA may fail to start."""
    error = RuntimeError(fails) if fails else None
    with (
        mock.patch.dict(os.environ, {"LOCAL_WORLD_SIZE": str(workers), "LOCAL_RANK": str(rank)}),
        mock.patch("torch.version.cuda", "13.0"),
        mock.patch("torch.cuda.is_available", return_value=bool(devices) and not fails),
        mock.patch("torch.cuda.device_count", return_value=devices),
        mock.patch("torch.cuda.init", side_effect=error),
        mock.patch("torch.cuda.set_device"),
        mock.patch("bnsgcn.device.place.is_nccl_available", return_value=nccl),
    ):
        yield


def test_workers_share_devices_when_there_are_fewer() -> None:
    with machine(2, workers=4, rank=3):
        assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
        assert pick_device("cpu") == CPU
    with machine(0):
        assert pick_device("auto") == CPU


@pytest.mark.parametrize(
    ("workers", "nccl", "taken"), [(2, True, "nccl"), (3, True, "gloo"), (2, False, "gloo")]
)
def test_auto_takes_nccl_where_every_worker_has_a_device(workers: int, nccl: bool, taken: str) -> None:
    with machine(2, workers=workers, nccl=nccl):
        assert pick_backend("auto", GPU) == taken
        assert pick_backend("gloo", GPU) == "gloo"
        assert pick_backend("auto", CPU) == "gloo"


def test_two_workers_on_one_device_are_told_of_gloo() -> None:
    with (
        machine(1, workers=2),
        pytest.raises(UserError, match=r"2 workers on 1 CUDA devices .* use --backend gloo"),
    ):
        pick_backend("nccl", GPU)
    with machine(2, nccl=False), pytest.raises(UserError, match="has no nccl; use --backend gloo"):
        pick_backend("nccl", GPU)
    with pytest.raises(UserError, match="no CUDA device here; use --backend gloo"):
        pick_backend("nccl", CPU)


def test_a_torch_without_cuda_and_a_driver_that_is_too_old() -> None:
    old = "The NVIDIA driver on your system is too old (found version 11040).\nPlease update"
    with machine(1, fails=old), pytest.raises(UserError, match=r"too old .* use --device cpu") as caught:
        pick_device("cuda")
    assert "\n" not in str(caught.value)
    with (
        mock.patch("torch.version.cuda", None),
        mock.patch("torch.cuda.is_available", return_value=False),
        pytest.raises(
            UserError, match=r"is built without CUDA; install a build for CUDA .* or use --device cpu"
        ),
    ):
        pick_device("cuda")


@pytest.mark.parametrize(("names", "taken"), [(["nccl", "nccl"], "nccl"), (["nccl", "gloo"], "gloo")])
def test_machines_that_differ_take_gloo(names: list[str], taken: str) -> None:
    store = torch.distributed.HashStore()
    store.set("backend 1", names[1])
    assert common_backend(store, 0, 2, names[0], GPU) == taken
    assert common_backend(store, 0, 2, "gloo", CPU) == "gloo"
