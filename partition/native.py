"""Compile a C file once, load it through ctypes; where there is no compiler, say so by returning None.

The shared object is kept under `~/.cache/bnsgcn/native` (or `$BNSGCN_NATIVE_CACHE`), named by a hash of the
source, the flags, the compiler and the processor, and written under a temporary name first: processes
that compile at the same time do not disturb each other. `BNSGCN_NATIVE=off` switches compiling off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-std=c11", "-shared", "-fPIC", "-Wall")


@functools.cache
def library(source: Path, flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL | None:
    """The compiled `source`; None where it cannot be compiled or loaded here.

    A caller declares argtypes and restype of the functions it uses, and has another way for None.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.environ.get("BNSGCN_NATIVE", "on") == "off":
        return None
    built = _cache_folder() / f"{source.stem}-{_fingerprint(source, flags, compiler)}.so"
    try:
        if not built.is_file():
            _compile(source, flags, compiler, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError):
        return None


def _cache_folder() -> Path:
    default = Path.home() / ".cache" / "bnsgcn" / "native"
    return Path(os.environ.get("BNSGCN_NATIVE_CACHE", default))


def _compile(source: Path, flags: tuple[str, ...], compiler: str, built: Path) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=built.parent, suffix=".so")
    os.close(handle)
    try:
        subprocess.run(
            [compiler, *flags, str(source), "-o", unfinished, "-lm"],
            check=True,
            capture_output=True,
            timeout=120,
        )
        os.replace(unfinished, built)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _fingerprint(source: Path, flags: tuple[str, ...], compiler: str) -> str:
    digest = hashlib.sha256(source.read_bytes())
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=20, check=False).stdout
    for part in (" ".join(flags), compiler, platform.machine(), _processor()):
        digest.update(part.encode())
    digest.update(version)
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(
        line for line in lines[:40] if line.startswith(("model", "flags", "cpu family", "Features"))
    )
