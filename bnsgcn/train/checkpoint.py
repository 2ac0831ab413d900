"""Checkpoints that are whole or not there: write, fsync, verify, seal, rename, and only then drop an old one.

    RUN/checkpoints/epoch_000040/shared.pt       weights, optimiser, counters: the same on every rank
    RUN/checkpoints/epoch_000040/rank_00001.pt   what only rank 1 has (its lanes, averages)
    RUN/checkpoints/epoch_000040/checkpoint.json the seal: epoch, workers, identity, which checkpoint is best
                                                 so far, SHA-256 of each file

Every rank hashes the file that it writes and reads, rank 0 the shared one too, and tells the others. The two
newest are kept, and what they call the best. A newer one that was damaged on disk is passed over, aloud.
What was written on another cut of the same graph gives what is shared, and nothing else of it is read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from bnsgcn.dist import World
from bnsgcn.train.seal import (
    SEAL_NAME,
    Best,
    Seal,
    best_folder,
    epoch_of,
    folder_name,
    folder_of,
    sealed_folders,
    set_aside,
    unfinished,
)
from bnsgcn.train.state_file import State, read_state, sha256_of, sync_folder, write_state
from partition.errors import UserError, one_line

KEPT = 2
SHARED_NAME = "shared.pt"

Said = TypeVar("Said")


class Checkpoints:
    """The checkpoints of one run, as one rank sees them. All methods are collective."""

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        world: World,
        *,
        identity: Mapping[str, str | int] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            identity: What must agree between the run that saves and the run that loads, such as the shape of
                the model; but of one "graph", "parts" may differ, and the number of workers; see `load`.
            say: Receives what the user should know; standard error of rank 0 if None.
        """
        self.folder = Path(run_dir) / "checkpoints"
        self._world = world
        self._identity = dict(identity or {})
        self._say = say or self._to_stderr
        self._damaged: set[Path] = set()

    # ---- writing ----

    def save(self, epoch: int, shared: State, own: State, *, best: Best | None = None) -> Path:
        """Write the state after `epoch` epochs; returns when every rank's share is safe on disk.

        Args:
            shared: Equal on all ranks; rank 0 writes it.
            own: Of this rank.
            best: The best checkpoint so far, perhaps this one.

        Raises:
            OSError: A rank could not write its share, or it reads back differently. Older checkpoints are
                untouched and nothing of this one is left.
        """
        target = self.folder / folder_name(epoch)
        states = {SHARED_NAME: shared} if self._world.rank == 0 else {}
        states[_own_name(self._world.rank)] = own
        try:
            digests = self._together(lambda: _write_all(unfinished(target), states))
            files = {name: digest for share in digests for name, digest in share.items()}
            seal = Seal(
                epoch=epoch, workers=self._world.size, identity=self._identity, best=best, files=files
            )
            self._of_rank_0(lambda: self._complete(seal, target))
        except (OSError, UserError) as error:
            self._of_rank_0(lambda: shutil.rmtree(unfinished(target), ignore_errors=True))
            if isinstance(error, UserError):
                raise
            raise OSError(
                error.errno,
                f"checkpoint {target.name} cannot be written ({error.strerror}); "
                f"the ones before are whole: make room, then go on with --resume",
            ) from error
        return target

    def _complete(self, seal: Seal, target: Path) -> None:
        """Seal what all ranks have written and put it in its place; then drop what is not needed any more."""
        partial = unfinished(target)
        for path in partial.iterdir():
            if path.name not in seal.files:
                path.unlink()
        for name in seal.files:
            if not (partial / name).exists():
                raise UserError(
                    f"rank 0 does not see {partial / name}; put --run-dir where all machines see it"
                )
        seal.write(partial)
        sync_folder(partial)
        if target.exists():  # a resumed run comes here again
            shutil.rmtree(set_aside(target), ignore_errors=True)
            target.rename(set_aside(target))
        partial.rename(target)
        sync_folder(self.folder)
        self._damaged.discard(target)
        needed = self._needed(target)
        for path in self.folder.iterdir():
            if epoch_of(path) is not None and path not in needed:
                shutil.rmtree(path, ignore_errors=True)  # somebody may be reading there; then the next time

    def _needed(self, newest: Path) -> set[Path]:
        """The newest, the one before, and their best; of what a run that went back left, nothing."""
        folders = sealed_folders(self.folder)
        known = [path for path in folders[folders.index(newest) :] if path not in self._damaged]
        by_epoch = {epoch_of(path): path for path in reversed(known)}
        needed = set(list(by_epoch.values())[-KEPT:])
        for folder in list(needed):
            with contextlib.suppress(OSError, UserError):
                best = Seal.read(folder).best
                needed |= {folder_of(self.folder, best.epoch)} if best else set()
        return needed

    # ---- reading ----

    def found(self) -> bool:
        """Whether the run has left any checkpoint, whole or not; says so where it has not."""
        found = self._of_rank_0(lambda: bool(sealed_folders(self.folder)))
        if not found:
            self._say(f"{self.folder} has no checkpoint yet; training starts at epoch 0")
        return bool(found)

    def load(self, which: str | os.PathLike[str]) -> tuple[State, State | None]:
        """The shared state and this rank's own: of "latest", of "best" or of the checkpoint at a path.

        There is no state of its own, None, for a rank of another cut of the graph than the one that saved.

        Raises:
            UserError: There is none, it is damaged, or it is of another graph or another model.
        """
        faults: dict[str, str] = {}
        while (path := self._of_rank_0(lambda: self._next(os.fspath(which), faults))) is not None:
            found = self._read(Path(path))
            if not isinstance(found, str):
                for passed_over, fault in faults.items():
                    name = Path(passed_over).name
                    self._say(f"checkpoint {name} is damaged ({fault}); going back to the one before")
                self._damaged = set(map(Path, faults))
                if found[1] is None and which != "best":
                    self._tell_of_another_cut(Path(path))
                return found
            faults[path] = found
        raise self._nothing_whole(os.fspath(which), faults)

    def _next(self, which: str, tried: Mapping[str, str]) -> str | None:
        """The next checkpoint to try; what is best is asked again, as a run may still be going on."""
        if which == "latest":
            candidates = sealed_folders(self.folder)
        elif which == "best":
            candidates = [best] if (best := best_folder(self.folder)) else []
        else:
            candidates = [Path(which)]
        return next((str(path) for path in candidates if str(path) not in tried), None)

    def _nothing_whole(self, which: str, faults: Mapping[str, str]) -> UserError:
        if not faults:
            missing = "best checkpoint; train first, with validation nodes"
            return UserError(
                f"{self.folder} has no {missing if which == 'best' else 'whole checkpoint; train first'}"
            )
        path, fault = next(iter(faults.items()))
        if which != "latest":
            return UserError(f"checkpoint {path} is damaged ({fault}); train again or go on with --resume")
        return UserError(
            f"all checkpoints of the run are damaged, {len(faults)} of {len(faults)} (the newest, {path}: "
            f"{fault}); name a new --run-dir, or remove {self.folder} to start again at epoch 0"
        )

    def _tell_of_another_cut(self, path: Path) -> None:
        then, now = self._of_rank_0(lambda: Seal.read(path).workers), self._world.size
        self._say(
            f"checkpoint {path.name} is of another cut of the graph ({then} workers then, {now} now): "
            f"weights, optimiser, counters and scores go over; rows in flight, moving averages, caches and "
            f"telemetry start anew"
        )

    def _read(self, path: Path) -> tuple[State, State | None] | str:
        """What a checkpoint holds, or what some rank finds wrong with it."""
        files: list[BinaryIO] = []
        try:
            answers = self._together(lambda: (self._fault(path, files), len(files)))
            fault = next((said for said, _ in answers if said is not None), None)
            if fault is None and len({count for _, count in answers}) > 1:
                fault = f"the ranks see different {SEAL_NAME}"
            if fault is not None:
                return fault
            shared, *own = map(read_state, files)
            return shared, own[0] if own else None
        finally:
            for file in files:
                file.close()

    def _fault(self, path: Path, files: list[BinaryIO]) -> str | None:
        """What is wrong with this rank's share; adds its files, open, so that what is verified is read."""
        try:
            seal = Seal.read(path)
        except OSError as error:
            return f"{SEAL_NAME}: {error.strerror}"
        except UserError as error:
            return one_line(error)
        self._check(path, seal)
        own = [_own_name(self._world.rank)] if self._is_of_this_cut(seal) else []
        try:
            for name in (SHARED_NAME, *own):
                files.append((path / name).open("rb"))
                vouched_for_by_rank_0 = name == SHARED_NAME and self._world.rank != 0
                if not vouched_for_by_rank_0 and sha256_of(files[-1]) != seal.files[name]:
                    return f"{name} has changed on disk"
        except OSError as error:
            return f"{Path(str(error.filename)).name}: {error.strerror}"
        return None

    def _check(self, path: Path, seal: Seal) -> None:
        """Raise the UserError of a checkpoint that is whole and does not belong here."""
        knows_its_graph = {"graph"} & seal.identity.keys() & self._identity.keys()
        if seal.workers != self._world.size and not knows_its_graph:
            raise UserError(
                f"checkpoint {path} was written by {seal.workers} workers, this run has {self._world.size}; "
                f"start {seal.workers} workers"
            )
        open_to_change = "parts" if knows_its_graph else "graph"
        for key, mine in self._identity.items():
            theirs = seal.identity.get(key)
            if mine != theirs and key != open_to_change:
                raise UserError(
                    f"checkpoint {path} has {key} {theirs}, this run has {mine}; "
                    f"resume with the options that it was started with, or name a new --run-dir"
                )

    def _is_of_this_cut(self, seal: Seal) -> bool:
        """Whether each rank had the part then that it has now."""
        parts = self._identity.get("parts")
        return seal.workers == self._world.size and parts in (None, seal.identity.get("parts"))

    # ---- agreement ----

    def _of_rank_0(self, step: Callable[[], Said]) -> Said | None:
        """What a step of rank 0 gives, on all ranks."""
        return self._together(lambda: step() if self._world.rank == 0 else None)[0]

    def _together(self, step: Callable[[], Said]) -> list[Said]:
        """What a step gives on every rank (ready for JSON); where one fails, all raise its error."""
        cause: Exception | None = None
        said: dict[str, Any] = {}
        try:
            said["given"] = step()
        except UserError as error:
            cause, said["mistake"] = error, str(error)
        except OSError as error:
            cause, said["failure"] = error, (error.errno or errno.EIO, error.strerror or one_line(error))
        answers = [json.loads(text) for text in self._world.all_gather_text(json.dumps(said))]
        if not all("given" in answer for answer in answers):
            with contextlib.suppress(RuntimeError):  # a rank that knows enough may have left
                self._world.barrier()
        for answer in answers:
            if "mistake" in answer:
                raise UserError(answer["mistake"]) from cause
            if "failure" in answer:
                raise OSError(*answer["failure"]) from cause
        return [answer["given"] for answer in answers]

    def _to_stderr(self, line: str) -> None:
        if self._world.rank == 0:
            print(f"bnsgcn: {line}", file=sys.stderr, flush=True)


def _own_name(rank: int) -> str:
    return f"rank_{rank:05d}.pt"


def _write_all(folder: Path, states: Mapping[str, State]) -> dict[str, str]:
    """Write the files of one rank; their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: write_state(folder / name, state) for name, state in states.items()}
