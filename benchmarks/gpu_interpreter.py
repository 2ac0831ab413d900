"""Whether the Triton kernels' tests pass: on the GPU, or without one in Triton's interpreter, on CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import torch

from benchmarks.gpu_section import Options, Section
from benchmarks.workloads import ROOT, Skip

TESTS = "tests/bnsgcn/kernels/triton"


def measure(options: Options) -> Section:
    """The last line of pytest."""
    on_gpu = torch.cuda.is_available()
    if on_gpu and options.quick:
        raise Skip("the kernels' tests compile hundreds of kernels, which takes minutes; without --quick")
    if importlib.util.find_spec("pytest") is None:
        raise Skip("pytest is not installed")
    chosen = ["-m", "gpu"] if on_gpu else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, TESTS]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "0" if on_gpu else "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else ended.stderr.strip()
    if ended.returncode != 0:
        print(ended.stdout[-4_000:])
        raise RuntimeError(f"{' '.join(command[1:])}: {said}")
    title = "The kernels' tests" if on_gpu else "Triton's interpreter, on CPU"
    return Section(title=title, body=f"`pytest {' '.join([*chosen, TESTS])}`: {said}", raw=said)
