"""The run folder: what a run was asked for, what every epoch measured, and how it ended.

    RUN/config.json      options, the parts folder and its digest          written by rank 0 at the start
    RUN/metrics.jsonl    one line an epoch, aggregated over the ranks      written by rank 0
    RUN/rank_K.jsonl     one line an epoch of rank K
    RUN/summary.json     score, medians, bytes, memory                     written by rank 0 at the end
    RUN/metrics.csv, tensorboard/, mlruns/, wandb/  what --track asks for, see bnsgcn/track
    RUN/profile/         what --profile asks for, see trace.py
    RUN/errors/rank_K.txt  the traceback of a rank that failed
    RUN/checkpoints/     see checkpoint.py
    RUN/.lock            host and number of the process that writes here, see run_lock.py

Nothing here knows how epochs are trained or how they are shown: trackers do the showing (tracker.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from bnsgcn.config import TrainConfig
from bnsgcn.earlier import of_now
from bnsgcn.own import NONE_OWN, Reference, References
from bnsgcn.record.epoch_lines import EpochLines
from bnsgcn.record.json_file import read_object, write_object, write_whole
from bnsgcn.record.run_lock import LOCK_NAME, RunLock
from bnsgcn.record.versions import versions
from partition.errors import UserError, one_line

MAY_CHANGE = frozenset(
    {"epochs", "eval_every", "patience", "checkpoint_every", "telemetry_every"}
    | {"backend", "device", "kernel", "threads", "timeout_s", "resume", "track", "profile"}
)
"""Options that a resumed run may set anew; all others decide what the weights become."""
HELD_BY: dict[str, tuple[str, ...]] = {
    "constant": (),
    "cosine": ("epochs",),
    "plateau": ("epochs", "eval_every"),
}
"""Which of them do decide it after all, since this --lr-schedule goes by them."""
HELD_BY_BYTES = ("epochs", "eval_every")
"""And those that `--aim bytes` and `--max-bytes` go by."""


class PartsIdentity(Protocol):
    """What a run remembers of its parts; `partition.store.Manifest` is one."""

    @property
    def name(self) -> str:
        """Name of the graph."""

    @property
    def parts(self) -> int:
        """Number of parts."""

    @property
    def digest(self) -> str:
        """Identifies graph and partitioning."""

    @property
    def graph_digest(self) -> str:
        """Identifies the graph alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What `config.json` says about a run."""

    config: TrainConfig
    parts_dir: Path
    name: str
    parts: int
    digest: str
    graph: str
    """Identifies the graph, however it is cut; empty where an earlier version trained."""
    launch: str
    """Identifies the torchrun that trains or trained; empty when none did."""
    own: References
    """Functions of the user's own by their kind."""
    versions: Mapping[str, str]
    """Of Python, the system and the packages that trained, or went on, last."""


def launch_id() -> str:
    """The torchrun process that started this one, the same for its restarts; empty where none did.

    torchrun's own id is "none" for every launch that was not given another.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    agent = os.getppid()
    try:
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:  # not Linux
        asked = ["ps", "-o", "lstart=", "-p", str(agent)]
        began = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return f"{platform.node()} {agent} {began}"


class RunFolder:
    """The files of one run, except for its checkpoints."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._config = self.path / "config.json"
        self._lock = RunLock(self.path)
        self._metrics = EpochLines(self.path / "metrics.jsonl")

    def create(
        self,
        config: TrainConfig,
        manifest: PartsIdentity,
        parts_dir: str | os.PathLike[str],
        own: References = NONE_OWN,
    ) -> None:
        """Make the folder on rank 0, or, with `config.resume`, take up the run that is there.

        Until `release`, or the end of this process, no other process gets that far.

        Raises:
            UserError: A run or something else is there already and is not to be resumed, it is a run of
                another graph or other options, another process writes here, or the folder cannot be written.
        """
        self.check(config, manifest, own)
        facts = {
            "config": config.to_json(),
            "parts_dir": str(Path(parts_dir).resolve()),
            "name": manifest.name,
            "parts": manifest.parts,
            "digest": manifest.digest,
            "graph": manifest.graph_digest,
            "launch": launch_id(),
            "own": own,
            "versions": versions(),
        }
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.claim()
            self._check_content(config, manifest, own)  # again, now that nobody else can change it
            write_object(self._config, facts)
        except UserError:
            self.release()
            raise
        except OSError as error:
            self._withdraw(is_new)
            raise UserError(
                f"--run-dir {self.path} cannot be written ({error.strerror}); name another folder"
            ) from error

    def _withdraw(self, is_new: bool) -> None:
        """Leave nothing behind in a folder that could not be written."""
        self.release()
        with contextlib.suppress(OSError):
            if is_new:
                (self.path / LOCK_NAME).unlink(missing_ok=True)
                self.path.rmdir()

    def claim(self) -> None:
        """Let no other process write here until `release`, or the end of this process; see `RunLock`."""
        self._lock.acquire()

    def release(self) -> None:
        """Let others write here."""
        self._lock.release()

    def in_use(self) -> bool:
        """Whether another process writes here."""
        return self._lock.in_use()

    def check(self, config: TrainConfig, manifest: PartsIdentity, own: References = NONE_OWN) -> None:
        """Raise the errors of `create` without writing anything."""
        self._check_content(config, manifest, own)
        self._lock.check()

    def _check_content(self, config: TrainConfig, manifest: PartsIdentity, own: References) -> None:
        if not self._config.exists():
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"--run-dir {self.path} is a file; name a folder")
            ours = {LOCK_NAME, f"{self._config.name}.partial"}  # of a run that was killed at once
            if self.path.is_dir() and any(entry.name not in ours for entry in self.path.iterdir()):
                raise UserError(f"--run-dir {self.path} is not empty and holds no run; name a new folder")
            return
        if not config.resume:
            raise UserError(f"--run-dir {self.path} holds a run already; add --resume or name a new folder")
        found = self.open()
        if found.digest != manifest.digest and found.graph != manifest.graph_digest:
            raise UserError(
                f"--run-dir {self.path} is a run on {found.name!r} in {found.parts} parts "
                f"({found.digest[:12]}), "
                f"these parts are {manifest.name!r} in {manifest.parts} parts ({manifest.digest[:12]}); "
                f"use {found.parts_dir} or a new --run-dir"
            )
        self._check_options(found.config, config)
        self._check_own(found.own, own)

    def _check_options(self, old: TrainConfig, new: TrainConfig) -> None:
        may_change = MAY_CHANGE.difference(HELD_BY[old.lr_schedule], HELD_BY_BYTES if old.saves_bytes else ())
        for name, value in new.to_json().items():
            before = getattr(old, name)
            if name not in may_change and value != before:
                option = name.replace("_", "-")
                raise UserError(
                    f"--{option} is {value}, the run in {self.path} was started with {before}; "
                    f"resume with --{option} {before} or name a new --run-dir"
                )

    def _check_own(self, old: References, new: References) -> None:
        for kind in sorted({*old, *new}):
            before, now = (str(Reference(**own[kind])) if kind in own else "none" for own in (old, new))
            if before != now:
                raise UserError(
                    f"{kind} of your own is {now}, the run in {self.path} was started with {before}; "
                    f"resume it from Python with the same, bnsgcn.train(..., resume=True), or name a new one"
                )

    def open(self) -> RunFacts:
        """What the run was asked for.

        Raises:
            UserError: This is no run folder, or its config.json is broken.
        """
        try:
            values = read_object(self._config)
            return RunFacts(
                config=TrainConfig.from_json(values["config"]),
                parts_dir=Path(values["parts_dir"]),
                name=str(values["name"]),
                parts=int(values["parts"]),
                digest=str(values["digest"]),
                graph=str(values.get("graph", "")),
                launch=str(values["launch"]),
                own={
                    kind: Reference(**where).to_json() for kind, where in dict(values.get("own", {})).items()
                },
                versions={name: str(found) for name, found in dict(values.get("versions", {})).items()},
            )
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.path} is no run folder: it has no config.json; see bnsgcn train"
            ) from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            fault = f"no {error}" if isinstance(error, KeyError) else one_line(error)
            raise UserError(
                f"{self._config} cannot be read ({fault}); train again into a new folder"
            ) from None

    def is_of_this_launch(self) -> bool:
        """Whether the torchrun that started this process has started the run here before."""
        launch = launch_id()
        return bool(launch) and self._config.exists() and self.open().launch == launch

    def log_epoch(self, metrics: Mapping[str, float | int | None]) -> None:
        """Append what all ranks together measured in one epoch."""
        self._metrics.append(metrics)

    def log_rank(self, rank: int, metrics: Mapping[str, float | int | None]) -> None:
        """Append what one rank measured in one epoch."""
        self._of_rank(rank).append(metrics)

    def sync(self, rank: int) -> None:
        """Make the lines that `rank` wrote survive a power failure."""
        for lines in self._written_by(rank):
            lines.sync()

    def rewind(self, epoch: int, rank: int, ranks: int) -> None:
        """Forget what `rank` wrote of `epoch` and later ones, before a resumed run writes it again.

        Rank 0 sees to the files of those beyond `ranks`, which the run had before.
        """
        for lines in self._written_by(rank):
            lines.rewind(epoch)
        known = {self._of_rank(each).path for each in range(ranks)}
        for path in self.path.glob("rank_*.jsonl") if rank == 0 else ():
            if path not in known:
                EpochLines(path).rewind(epoch)

    def _of_rank(self, rank: int) -> EpochLines:
        return EpochLines(self.path / f"rank_{rank}.jsonl")

    def _written_by(self, rank: int) -> list[EpochLines]:
        return [self._of_rank(rank), *([self._metrics] if rank == 0 else [])]

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; empty before the first epoch."""
        return self._metrics.read()

    def rank_metrics(self, rank: int) -> list[dict[str, Any]]:
        """The lines of one rank."""
        return self._of_rank(rank).read()

    def unreadable(self) -> int:
        """How many lines of metrics.jsonl are passed over: cut short, damaged or written twice."""
        return self._metrics.unreadable()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, whole or not at all."""
        write_object(self.path / "summary.json", summary)

    def summary(self) -> dict[str, Any] | None:
        """What `write_summary` wrote; None where there is nothing, or nothing that can be read."""
        with contextlib.suppress(OSError, UserError):
            return read_object(self.path / "summary.json")
        return None

    def ended(self, config: TrainConfig) -> dict[str, Any] | None:
        """The summary of a run that came to its end with these options; None where there is more to do."""
        found = self.summary()
        if found is None or not isinstance(found.get("config"), dict):
            return None
        decide = config.to_json().keys() - MAY_CHANGE | {"epochs", "eval_every", "patience"}
        known = TrainConfig().to_json() | of_now(found["config"])
        return found if all(known[name] == getattr(config, name) for name in decide) else None

    def log_error(self, rank: int, text: str) -> Path | None:
        """Keep the traceback of a rank that failed, in a folder that holds a run; where it is."""
        if not self._config.exists():
            return None
        path = self.path / "errors" / f"rank_{rank}.txt"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text.encode(errors="backslashreplace"))
        return path
