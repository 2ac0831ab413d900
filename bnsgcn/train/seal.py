"""What makes a checkpoint whole: `checkpoint.json`, written last, says what is in it and which one is best.

Only what is on disk is looked at here, by one process; see checkpoint.py for what all ranks do together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import finite, read_object, write_object
from partition.errors import UserError, one_line

SEAL_NAME = "checkpoint.json"
_FOLDER = re.compile(r"epoch_(\d{6,})(\.partial|\.replaced)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best checkpoint that a run had so far."""

    epoch: int
    """Epochs trained until then."""
    score: float | None
    """On the validation nodes; None where it is no number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seal:
    """What `checkpoint.json` says, protected by a digest of its own."""

    epoch: int
    """Epochs trained until then."""
    workers: int
    identity: dict[str, str | int]
    """What must agree between the run that saves and the run that loads."""
    best: Best | None
    files: dict[str, str]
    """SHA-256 of each file."""

    def write(self, folder: Path) -> None:
        """Seal a folder that holds all the files."""
        values = finite(dataclasses.asdict(self))
        write_object(folder / SEAL_NAME, values | {"digest": _digest(values)})

    @classmethod
    def read(cls, folder: Path) -> Seal:
        """The seal of a checkpoint.

        Raises:
            OSError: There is none, or it cannot be read.
            UserError: It is not what was written.
        """
        values = read_object(folder / SEAL_NAME)
        if values.pop("digest", None) != _digest(values):
            raise UserError(f"{SEAL_NAME} has changed on disk")
        try:
            best = None if values["best"] is None else Best(**values["best"])
            return cls(**(values | {"best": best}))
        except (KeyError, TypeError):
            raise UserError(f"{SEAL_NAME} is of another version") from None


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def folder_name(epoch: int) -> str:
    """Where the checkpoint after `epoch` epochs is kept."""
    return f"epoch_{epoch:06d}"


def unfinished(folder: Path) -> Path:
    """Where a checkpoint is written before it is whole."""
    return folder.with_name(f"{folder.name}.partial")


def set_aside(folder: Path) -> Path:
    """Where a checkpoint waits while another one takes its place."""
    return folder.with_name(f"{folder.name}.replaced")


def epoch_of(folder: Path) -> int | None:
    """Which epoch a folder belongs to; None for a folder that is none of ours."""
    found = _FOLDER.fullmatch(folder.name)
    return int(found[1]) if found else None


def sealed_folders(checkpoints: Path) -> list[Path]:
    """Folders that were sealed once, newest first; one that was set aside comes after its successor."""
    found = [path for path in checkpoints.glob("epoch_*") if path.suffix != ".partial"]
    known = [(epoch, path.suffix == "", path) for path in found if (epoch := epoch_of(path)) is not None]
    return [path for _, _, path in sorted(known, reverse=True)]


def folder_of(checkpoints: Path, epoch: int) -> Path:
    """The checkpoint after `epoch` epochs, be it there or not."""
    folder = checkpoints / folder_name(epoch)
    return folder if folder.exists() or not set_aside(folder).exists() else set_aside(folder)


def best_folder(checkpoints: Path) -> Path | None:
    """The best checkpoint as the newest one knows it; None when there is none.

    Raises:
        UserError: The newest one is damaged.
    """
    newest = next(iter(sealed_folders(checkpoints)), None)
    if newest is None:
        return None
    try:
        best = Seal.read(newest).best
    except (OSError, UserError) as error:
        raise UserError(
            f"checkpoint {newest} is damaged ({one_line(error)}); train again or go on with --resume"
        ) from None
    return folder_of(checkpoints, best.epoch) if best else None
