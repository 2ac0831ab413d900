"""Choosing a backend, and compiling one: what happens where a compiler is missing, broken or shared."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from bnsgcn.kernels import Kernels, check_bf16, describe, note_of, select
from bnsgcn.kernels.native.binding import native
from bnsgcn.kernels.select import copy_gb_per_s
from tests import forked

TRY = """
import torch
from bnsgcn.kernels import Csr, select
kernels = select("auto")
block = Csr.of(torch.tensor([0, 2]), torch.tensor([0, 1]), 2)
assert kernels.sum_rows(block, torch.ones(2, 20)).eq(2).all()
print(kernels.name)
"""
EXPLAIN = """
from bnsgcn.kernels import select
try:
    select("compiled")
except ValueError as error:
    print(error)
"""


def run(script: str, **environment: str) -> str:
    """What the script prints in a process with these variables, which has chosen no kernels before."""
    return forked.printed(script, {**os.environ, "OMP_NUM_THREADS": "1", **environment})


def test_names() -> None:
    assert select("torch").name == "torch"
    assert select("auto").name in ("compiled", "dgl", "torch")
    assert select("auto", dtype=torch.bfloat16).name == "torch"
    with pytest.raises(ValueError, match="must be one of auto, compiled, dgl, torch, triton"):
        select("cusparse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--kernel dgl works on cpu, the device is cuda"):
        select("dgl", device="cuda")
    if not torch.cuda.is_available():
        assert select("auto", device="cuda").name == "torch"
        with pytest.raises(ValueError, match="there is no CUDA device here; use --kernel auto"):
            select("triton", device="cuda")


@contextlib.contextmanager
def a_gpu(capability: tuple[int, int], *, triton: bool) -> Iterator[torch.device]:
    """As if there were one."""
    absent = {} if triton else {"triton": None, "bnsgcn.kernels.triton.triton_backend": None}
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.get_device_capability", return_value=capability),
        mock.patch("torch.cuda.get_device_name", return_value="Old 5000"),
        mock.patch.dict(sys.modules, absent),
    ):
        yield torch.device("cuda")


def test_triton_is_taken_on_a_gpu() -> None:
    pytest.importorskip("triton")
    with a_gpu((9, 0), triton=True) as device:
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            kernels = select("auto", device, dtype)
            assert kernels.name == "triton"
            assert note_of("auto", kernels, device) is None
        assert select("torch", device).name == "torch"
        check_bf16(device, "--amp bf16")


def test_torchs_kernels_where_triton_is_absent_or_the_gpu_too_old() -> None:
    for capability, triton, reason in (
        ((9, 0), False, r"Triton cannot be imported \(.*\); pip install triton"),
        ((7, 5), True, r"Triton needs compute capability 8.0, Old 5000 has 7.5; use --kernel torch"),
    ):
        with a_gpu(capability, triton=triton) as device:
            kernels = select("auto", device)
            assert kernels.name == "torch"
            note = note_of("auto", kernels, device)
            assert note is not None
            assert re.fullmatch(f"torch's kernels in place of Triton's: {reason}", note)
            assert note_of("torch", kernels, device) is None
            with pytest.raises(ValueError, match=reason):
                select("triton", device)


def test_a_gpu_without_bf16_is_named() -> None:
    with a_gpu((7, 5), triton=True) as device:
        with pytest.raises(ValueError, match=r"--amp bf16 needs compute capability 8\.0, Old 5000 has 7\.5"):
            check_bf16(device, "--amp bf16")
    check_bf16(torch.device("cpu"), "--amp bf16")


def test_triton_is_for_gpus() -> None:
    """Without its interpreter, which tests switch on."""
    pytest.importorskip("triton")
    script = EXPLAIN.replace("compiled", "triton")
    told = "--kernel triton works on cuda, the device is cpu; use --kernel auto"
    assert run(script, TRITON_INTERPRET="0") == told


def test_compiled_is_preferred_where_it_works(compiled: Kernels) -> None:
    assert select("auto").name == compiled.name == "compiled"


def test_no_compiler_is_a_reason_and_no_failure(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "CC": "", "BNSGCN_CACHE": str(tmp_path)}
    assert run(TRY, **environment) in ("dgl", "torch")
    assert "no C compiler found" in run(EXPLAIN, **environment)


def test_switched_off_is_a_reason_and_no_failure() -> None:
    assert run(TRY, BNSGCN_NATIVE="off") in ("dgl", "torch")
    assert "BNSGCN_NATIVE=off" in run(EXPLAIN, BNSGCN_NATIVE="off")


def test_auto_does_not_import_dgl_where_there_is_a_compiler(compiled: Kernels) -> None:
    assert run(TRY + "import sys; print('dgl' in sys.modules)").split() == ["compiled", "False"]


def test_a_broken_compiler_is_a_reason_and_no_failure(tmp_path: Path) -> None:
    compiler = tmp_path / "cc-broken"
    compiler.write_text("#!/bin/sh\necho 'fatal error: no such luck' >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    environment = {"CC": str(compiler), "BNSGCN_CACHE": str(tmp_path / "cache")}
    assert run(TRY, **environment) in ("dgl", "torch")
    assert "no such luck" in run(EXPLAIN, **environment)
    assert list((tmp_path / "cache" / "native").iterdir()) == []


def test_describe_has_a_row_for_each_backend() -> None:
    rows = describe()
    assert [row.name for row in rows] == ["compiled", "dgl", "torch"]
    assert [row.name for row in rows if row.chosen] == [select("auto").name]
    assert all(row.works == (row.sum_ms is not None and row.sum_ms > 0) for row in rows)
    assert all(row.works == (row.gb_per_s is not None and row.gb_per_s > 0) for row in rows)
    assert copy_gb_per_s() > 0
    assert all(row.note for row in rows)
    assert native().note in rows[0].note
