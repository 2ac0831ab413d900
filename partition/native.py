"""The one builder of native code: compiles a C file on first use and keeps the library for this user.

It needs a C compiler (CC, cc, gcc or clang), never at installation; where there is none, or anything else
fails, the reason is a line of text and other code does the work. BNSGCN_NATIVE=off switches it off.

A library's name holds a hash of what it is made of (source, flags, compiler, and the instruction sets that
the compiler uses for this processor, so that a home folder may move between machines) and a hash of its own
bytes: one that was cut short is noticed before it is loaded, and made again. It is written under a temporary
name first, so that processes that compile at the same time do not disturb each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from partition.errors import UserError, one_line

_FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC"),
    # Separate products and sums round as NumPy's and torch's do: the same bits with and without a compiler.
    "-ffp-contract=off",
    *("-fno-math-errno", "-fno-trapping-math"),
)
_ATTEMPTS = (("-fopenmp",), ())
"""Extra flags, best first: some compilers come without OpenMP; one thread a worker needs none."""
_COMPILE_LIMIT_S = 180.0
_HASH_DIGITS = 20


@dataclasses.dataclass(frozen=True)
class Native:
    """A loaded library, or why there is none."""

    library: ctypes.CDLL | None
    note: str
    """One line: where the library is and what compiled it, or the reason."""


@functools.cache
def load(source: Path, layout: tuple[int, ...]) -> Native:
    """The library of a C file, compiled if need be.

    Args:
        source: the file; what it includes lies beside it.
        layout: what its `native_layout` says after its own length: the version of its functions, and the
            size in bytes of each structure that Python fills for them.

    Raises:
        RuntimeError: the library has another layout, so the installed files do not belong together.
    """
    try:
        compiler = _compiler()
        path = _library_file(source, compiler)
        library = ctypes.CDLL(str(path))
    except UserError as error:
        return Native(None, str(error))
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"{source.name} cannot be compiled or loaded here: {one_line(error)}")
    _check_layout(library, source, layout)
    return Native(library, f"{path} by {compiler}")


def _check_layout(library: ctypes.CDLL, source: Path, layout: tuple[int, ...]) -> None:
    length = ctypes.c_int64.in_dll(library, "native_layout").value
    found = tuple((ctypes.c_int64 * (1 + length)).in_dll(library, "native_layout"))[1:]
    if found != layout:
        raise RuntimeError(f"{source} has the layout {found}, Python expects {layout}: install bnsgcn again")


def cache_folder() -> Path:
    """The user's own folder for libraries, made if need be.

    In BNSGCN_CACHE, else XDG_CACHE_HOME/bnsgcn, else ~/.cache/bnsgcn; where that cannot be written, in the
    system's temporary folder.

    Raises:
        UserError: the folder belongs to somebody else or others can write it: their code would run as ours.
        OSError: no folder can be written.
    """
    for folder in _candidates():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            _refuse_shared(folder.resolve())
            return folder.resolve()
    raise OSError("no folder for compiled code can be written; set BNSGCN_CACHE to one that can")


def _candidates() -> Iterator[Path]:
    chosen, base = os.environ.get("BNSGCN_CACHE"), os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # of a user without a home
        yield (Path(chosen) if chosen else Path(base or "~/.cache") / "bnsgcn").expanduser() / "native"
    yield Path(tempfile.gettempdir()) / f"bnsgcn-native-{os.getuid()}"


def _refuse_shared(folder: Path) -> None:
    """UserError unless `folder` is this user's alone and nobody can put another in its place."""
    way_out = "set BNSGCN_CACHE to a folder of your own"
    status, me = folder.stat(), os.getuid()
    if status.st_uid != me:
        raise UserError(f"{folder} belongs to user {status.st_uid}, you are {me}; {way_out}")
    if status.st_mode & 0o022:
        raise UserError(f"{folder} can be written by others (mode {status.st_mode & 0o777:o}); {way_out}")
    for above in folder.parents:
        mode = above.stat().st_mode
        if mode & 0o002 and not mode & 0o1000:
            raise UserError(f"{above} can be written by everybody (mode {mode & 0o777:o}); {way_out}")


def _compiler() -> str:
    if os.environ.get("BNSGCN_NATIVE") == "off":
        raise UserError("compiled code is switched off by BNSGCN_NATIVE=off; unset it to use the compiler")
    wanted = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    found = next((path for name in wanted if name and (path := shutil.which(name))), None)
    if found is None:
        raise UserError("no C compiler found (CC, cc, gcc, clang); install one to use compiled code")
    return found


def _library_file(source: Path, compiler: str) -> Path:
    """The whole library of `source` in the cache folder, made if it is not there."""
    folder, name = cache_folder(), f"{source.stem}-{_fingerprint(source, compiler)}"
    for path in sorted(folder.glob(f"{name}-*.so")):
        if path.stem == f"{name}-{_digest(path.read_bytes())}":
            return path
    return _compile(source, compiler, folder, name)


def _compile(source: Path, compiler: str, folder: Path, name: str) -> Path:
    complaint = ""
    for extra in _ATTEMPTS:
        handle, draft = tempfile.mkstemp(dir=folder, prefix="draft-", suffix=".so")
        os.close(handle)
        try:
            done = _run([compiler, *_FLAGS, *extra, str(source), "-o", draft, "-lm"])
            if done.returncode == 0:
                path = folder / f"{name}-{_digest(Path(draft).read_bytes())}.so"
                return Path(draft).replace(path)
            complaint = complaint or done.stderr
        finally:
            Path(draft).unlink(missing_ok=True)
    raise UserError(f"{compiler} cannot compile {source.name}: {_first_error(complaint)}")


def _fingerprint(source: Path, compiler: str) -> str:
    """Changes with the source, the flags, the compiler and the processor."""
    digest = hashlib.sha256(repr((_FLAGS, _ATTEMPTS, compiler)).encode())
    for path in sorted(source.parent.glob("*.[ch]")):
        digest.update(path.read_bytes())
    digest.update(_target(compiler).encode())
    return digest.hexdigest()[:_HASH_DIGITS]


def _target(compiler: str) -> str:
    """The compiler's version and what it takes for granted of this processor, as its predefined macros."""
    macros = _run([compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull]).stdout
    return "\n".join((platform.machine(), platform.processor(), macros))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_COMPILE_LIMIT_S, check=False
    )


def _first_error(complaint: str) -> str:
    lines = [line for line in complaint.splitlines() if line.strip()]
    telling = (line for line in lines if "error" in line or "cannot find" in line)
    return next(telling, lines[0] if lines else "it failed without a message")
