"""Checkpoints that are whole or not there: write, fsync, verify, rename, and only then drop an old one.

    RUN/checkpoints/epoch_000040/shared.pt       weights, optimiser, counters: the same on every rank
    RUN/checkpoints/epoch_000040/rank_00001.pt   what only rank 1 has (its lanes, averages)
    RUN/checkpoints/epoch_000040/checkpoint.json epoch, workers, identity, SHA-256 of each file
    RUN/checkpoints/best.json                    which of them had the best validation score

The two newest and the best are kept. A newer one that was damaged on disk is passed over, aloud. Files are
read with `weights_only=True`: nothing from disk is ever unpickled into code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bnsgcn.record.run_folder import write_json
from partition.errors import UserError

KEPT = 2
CHUNK_BYTES = 1 << 22


class Checkpoints:
    """The checkpoints of one run, as one rank sees them. All ranks call `save` together."""

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        world_rank: int,
        world_size: int,
        barrier: Callable[[], None],
        *,
        identity: Mapping[str, str | int] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            identity: What must agree between the run that saves and the run that loads, such as the digest
                of the parts and the shape of the model; see `load`.
            say: Receives one line when a damaged checkpoint is passed over; standard error of rank 0 if None.
        """
        self.folder = Path(run_dir) / "checkpoints"
        self._rank = world_rank
        self._size = world_size
        self._barrier = barrier
        self._identity = dict(identity or {})
        self._say = say or self._to_stderr
        self._passed_over: set[Path] = set()

    def save(self, epoch: int, shared: dict[str, Any], own: dict[str, Any], *, best: bool = False) -> Path:
        """Write the state after `epoch` epochs; returns when every rank's share is safe on disk.

        Args:
            shared: Tensors and plain values, equal on all ranks; rank 0 writes them.
            own: Tensors and plain values of this rank.
            best: This is the best one so far.

        Raises:
            OSError: It could not be written or reads back differently; older checkpoints are untouched.
        """
        target = self.folder / f"epoch_{epoch:06d}"
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        files = {f"rank_{self._rank:05d}.pt": own} | ({"shared.pt": shared} if self._rank == 0 else {})
        for name, state in files.items():
            try:
                _write_verified(partial / name, state)
            except OSError as error:
                (partial / name).unlink(missing_ok=True)
                raise OSError(
                    error.errno or errno.EIO,
                    f"checkpoint {target.name} cannot be written ({error.strerror or error}); "
                    f"the ones before are whole: make room, then go on with --resume",
                ) from error
        self._barrier()
        if self._rank == 0:
            self._complete(epoch, partial, target, best)
        self._barrier()
        return target

    def _complete(self, epoch: int, partial: Path, target: Path, best: bool) -> None:
        """Seal a checkpoint that all ranks have written, then drop the oldest. Rank 0 only."""
        for path in partial.iterdir():
            if path.suffix == ".pt" and path.name not in self._names():
                path.unlink()
        digests = {name: _sha256(partial / name) for name in self._names()}
        seal = {"epoch": epoch, "workers": self._size, "identity": self._identity, "files": digests}
        write_json(partial / "checkpoint.json", seal)
        _sync_folder(partial)
        if target.exists():  # a resumed run comes here again
            shutil.rmtree(target)
        partial.rename(target)
        _sync_folder(self.folder)
        if best:
            write_json(self.folder / "best.json", {"checkpoint": target.name})
        keep = {path.name for path in self._all()[-KEPT:]} | {target.name, self._best_name()}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in keep:
                shutil.rmtree(path)

    def latest(self) -> Path | None:
        """The newest checkpoint that is whole, None when there is none; says which ones it passed over."""
        for path in reversed(self._all()):
            fault = self._fault(path)
            if fault is None:
                return path
            if path not in self._passed_over:
                self._passed_over.add(path)
                self._say(f"checkpoint {path.name} is damaged ({fault}); going back to the one before")
        return None

    def load(self, which: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The shared state and this rank's own: of "latest", of "best" or of the checkpoint at a path.

        Raises:
            ValueError: There is none, it is damaged, or it is of another number of workers, another
                graph or another model.
        """
        path = self._find(which)
        seal = _read_seal(path)
        if seal["workers"] != self._size:
            raise UserError(
                f"checkpoint {path} was written by {seal['workers']} workers, this run has {self._size}; "
                f"start {seal['workers']} workers"
            )
        for key in self._identity:
            mine, theirs = self._identity[key], seal["identity"].get(key)
            if mine != theirs:
                raise UserError(
                    f"checkpoint {path} has {key} {theirs}, this run has {mine}; "
                    f"resume with the options that it was started with, or name a new --run-dir"
                )
        shared, own = (_read(path / name) for name in ("shared.pt", f"rank_{self._rank:05d}.pt"))
        return shared, own

    def _find(self, which: str | os.PathLike[str]) -> Path:
        if which == "latest":
            latest = self.latest()
            if latest is None:
                raise UserError(f"{self.folder} has no whole checkpoint; train first")
            return latest
        name = self._best_name() if which == "best" else os.fspath(which)
        if not name:
            raise UserError(f"{self.folder} has no best checkpoint; train first, with validation nodes")
        path = self.folder / name if which == "best" else Path(which)
        fault = self._fault(path)
        if fault is not None:
            raise UserError(f"checkpoint {path} is damaged ({fault}); train again or go on with --resume")
        return path

    def _names(self) -> list[str]:
        return ["shared.pt", *(f"rank_{rank:05d}.pt" for rank in range(self._size))]

    def _all(self) -> list[Path]:
        """Folders of sealed checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("epoch_*") if path.suffix != ".partial")

    def _best_name(self) -> str:
        try:
            return str(json.loads((self.folder / "best.json").read_text())["checkpoint"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _fault(self, path: Path) -> str | None:
        """What is wrong with a checkpoint on disk. All files count, so that all ranks decide alike."""
        try:
            for name, digest in _read_seal(path)["files"].items():
                if _sha256(path / name) != digest:
                    return f"{name} has changed on disk"
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def _to_stderr(self, line: str) -> None:
        if self._rank == 0:
            print(f"bnsgcn: {line}", file=sys.stderr, flush=True)


class _HashingFile:
    """Passes bytes on to a file and remembers their SHA-256; torch.save writes front to back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        self.sha256.update(chunk)
        return self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()


def _write_verified(path: Path, state: dict[str, Any]) -> None:
    try:
        with path.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(state, hashing)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # torch.save hides a failed write behind its own error
        cause = error.__context__ or error.__cause__
        if isinstance(cause, OSError):
            raise cause from None
        raise OSError(f"{path} could not be written: {str(error).splitlines()[0]}") from error
    if _sha256(path) != hashing.sha256.hexdigest():
        raise OSError(f"{path} reads back differently from what was written; check the disk")


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _read_seal(path: Path) -> dict[str, Any]:
    try:
        seal: dict[str, Any] = json.loads((path / "checkpoint.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} has no checkpoint.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError("checkpoint.json is not readable") from None
    if not {"epoch", "workers", "identity", "files"} <= seal.keys():
        raise UserError("checkpoint.json is incomplete")
    return seal


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(path: Path) -> None:
    """Make a rename durable where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
