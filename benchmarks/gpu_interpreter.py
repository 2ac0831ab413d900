"""Where there is no GPU: whether the Triton kernels' tests pass in Triton's interpreter, on CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import torch

from benchmarks.gpu_section import Options, Section
from benchmarks.workloads import ROOT, Skip

TESTS = "tests/bnsgcn/kernels/triton"


def measure(_: Options) -> Section:
    """The last line of pytest; Skip on a GPU, where the same tests are in `pytest -m gpu`."""
    if torch.cuda.is_available():
        raise Skip("there is a GPU")
    if importlib.util.find_spec("pytest") is None:
        raise Skip("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else ended.stderr.strip()
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])}: {said}")
    return Section(title="Triton's interpreter, on CPU", body=f"`pytest {TESTS}`: {said}", raw=said)
