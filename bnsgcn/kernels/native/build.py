"""Compiles the native kernels on first use and keeps the result for the user, this source and this processor.

Needs a C compiler (CC, cc, gcc or clang), never at installation. Several processes may race: each compiles
under a name of its own and renames, the last one wins and all are the same. Where anything fails, the reason
is a line of text and the other backends do the work.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC"),
    # Separate products and sums round as torch's do: int8 and dropout are bitwise equal on every backend.
    "-ffp-contract=off",
    *("-fno-math-errno", "-fno-trapping-math"),
)
_ATTEMPTS = (("-fopenmp",), ())
"""Extra flags, best first: some compilers come without OpenMP; one thread a worker needs none."""
_COMPILE_LIMIT_S = 180.0


@dataclasses.dataclass(frozen=True)
class Native:
    """The loaded library, or why there is none."""

    library: ctypes.CDLL | None
    note: str
    """One line: where the library is and what compiled it, or the reason."""


@functools.cache
def native() -> Native:
    """The native library of this process, compiled if need be; never raises."""
    compiler = _compiler()
    if compiler is None:
        return Native(
            None, "no C compiler found (CC, cc, gcc, clang); install one to use the compiled kernels"
        )
    try:
        folder = cache_folder()
        path = folder / f"native-{_fingerprint(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return Native(ctypes.CDLL(str(path)), f"{path} by {compiler}")
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError) as error:
        return Native(None, f"{compiler} could not make the compiled kernels: {_first_line(error)}")


def cache_folder() -> Path:
    """The user's own folder for compiled kernels, made if need be.

    BNSGCN_CACHE, else XDG_CACHE_HOME, else ~/.cache; where none can be written, a folder of this user in the
    system's temporary directory.

    Raises:
        OSError: no folder can be made, or the temporary one belongs to somebody else.
    """
    chosen = os.environ.get("BNSGCN_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    candidates = [Path(chosen)] if chosen else [Path(base) / "bnsgcn"]
    for candidate in candidates:
        folder = candidate / "kernels"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return _private_temporary()


def _private_temporary() -> Path:
    owner = os.getuid()
    folder = Path(tempfile.gettempdir()) / f"bnsgcn-kernels-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != owner or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise OSError(f"{folder} can be written by others; set BNSGCN_CACHE to a folder of your own")
    return folder


def _compiler() -> str | None:
    wanted = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next((found for name in wanted if name and (found := shutil.which(name))), None)


def _fingerprint(compiler: str) -> str:
    """Changes with the source, the flags, the compiler and the processor."""
    digest = hashlib.sha256(repr((_FLAGS, _ATTEMPTS, compiler)).encode())
    for source in sorted(_SOURCE.parent.glob("*.[ch]")):
        digest.update(source.read_bytes())
    digest.update(_output([compiler, "--version"]).encode())
    digest.update(_processor().encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """Model and instruction sets: what -march=native depends on."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return f"{platform.machine()} {platform.processor()}"
    first = listing.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    wanted = ("model", "model name", "flags", "Features", "CPU part", "isa")
    return "\n".join(line for line in first.splitlines() if line.split(":")[0].strip() in wanted)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_LIMIT_S, check=False)
    return done.stdout


def _compile(compiler: str, path: Path) -> None:
    """Write the library to `path`, whole or not at all.

    Raises:
        ValueError: the compiler refused, with the first line of what it said.
    """
    complaint = ""
    for extra in _ATTEMPTS:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix="draft-", suffix=".so")
        os.close(handle)
        try:
            command = [compiler, *_FLAGS, *extra, str(_SOURCE), "-o", draft, "-lm"]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_COMPILE_LIMIT_S, check=False
            )
            if done.returncode == 0:
                Path(draft).replace(path)
                return
            complaint = complaint or done.stderr
        finally:
            Path(draft).unlink(missing_ok=True)
    raise ValueError(complaint or "it failed without a message")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else type(error).__name__)
