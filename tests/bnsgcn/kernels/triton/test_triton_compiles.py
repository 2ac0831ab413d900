"""Every kernel compiles for GPUs that are not here: what the interpreter runs, a device need not take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = "tests.bnsgcn.kernels.triton.compile_ahead"
FILES = ROOT / "bnsgcn" / "kernels" / "triton"


def compiled(folder: Path, *words: str) -> list[tuple[str, str, int]]:
    """(kernel, capability, bytes of stack) of each."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^(\w+) (sm_\d+): \d+ registers, (\d+) bytes of stack$", done.stdout, re.MULTILINE)
    return [(name, capability, int(stack)) for name, capability, stack in lines]


def kernels_written() -> set[str]:
    text = "\n".join(path.read_text() for path in FILES.glob("*.py"))
    return set(re.findall(r"@triton\.jit\(do_not_specialize=.*\)\ndef (\w+)", text))


def test_every_kernel_compiles_for_ampere_and_hopper(tmp_path: Path) -> None:
    found = compiled(tmp_path, "--quick", "80", "90")
    assert {(name, capability) for name, capability, _ in found} == {
        (name, capability) for name in kernels_written() for capability in ("sm_80", "sm_90")
    }
    assert max(stack for *_, stack in found) <= 16, "registers are spilled"
