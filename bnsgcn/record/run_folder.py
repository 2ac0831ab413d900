"""The run folder: what a run was asked for, what every epoch measured, and how it ended.

    RUN/config.json      options, the parts folder and its digest          written by rank 0 at the start
    RUN/metrics.jsonl    one line an epoch, aggregated over the ranks      written by rank 0
    RUN/rank_K.jsonl     one line an epoch of rank K
    RUN/summary.json     score, medians, bytes, memory                     written by rank 0 at the end
    RUN/errors/rank_K.txt  the traceback of a rank that failed
    RUN/checkpoints/     see checkpoint.py

Nothing here knows how epochs are trained or how they are shown: a `Listener` does the showing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from bnsgcn.config import TrainConfig
from partition.errors import UserError

MAY_CHANGE = frozenset(
    {"epochs", "eval_every", "patience", "checkpoint_every", "telemetry_every"}
    | {"backend", "device", "kernel", "threads", "timeout_s", "resume"}
)
"""Options that a resumed run may set anew; all others decide what the weights become."""


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


class Listener(Protocol):
    """Follows a run on rank 0, to show it."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Before the first epoch; `facts` has name, parts, model, epochs, start_epoch and more."""

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """After every epoch, with what `metrics.jsonl` gets."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """After the last epoch, with what `summary.json` gets."""


class Silent:
    """A listener that shows nothing."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Nothing."""

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Nothing."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """Nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What `config.json` says about a run."""

    config: TrainConfig
    parts_dir: Path
    name: str
    parts: int
    digest: str
    launch: str
    """Identifies the torchrun that trains or trained; empty when none did."""


def launch_id() -> str:
    """The torchrun that started this process, the same for its restarts; empty elsewhere."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "")


class RunFolder:
    """The files of one run, except for its checkpoints."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def create(self, config: TrainConfig, manifest: PartsIdentity, parts_dir: str | os.PathLike[str]) -> None:
        """Make the folder on rank 0, or, with `config.resume`, take up the run that is there.

        Raises:
            ValueError: A run or something else is there already and is not to be resumed, or it is a run
                of another graph, another partitioning or other options.
        """
        self.check(config, manifest)
        facts = {
            "config": config.to_json(),
            "parts_dir": str(Path(parts_dir).resolve()),
            "name": manifest.name,
            "parts": manifest.parts,
            "digest": manifest.digest,
            "launch": launch_id(),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "config.json", facts)
        except OSError as error:
            raise UserError(
                f"--run-dir {self.path} cannot be written ({error.strerror}); name another folder"
            ) from error

    def check(self, config: TrainConfig, manifest: PartsIdentity) -> None:
        """Raise the errors of `create` without writing anything."""
        if not (self.path / "config.json").exists():
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"--run-dir {self.path} is a file; name a folder")
            if self.path.is_dir() and any(self.path.iterdir()):
                raise UserError(f"--run-dir {self.path} is not empty and holds no run; name a new folder")
            return
        if not config.resume:
            raise UserError(f"--run-dir {self.path} holds a run already; add --resume or name a new folder")
        found = self.open()
        if found.digest != manifest.digest:
            raise UserError(
                f"--run-dir {self.path} is a run on {found.name!r} in {found.parts} parts "
                f"({found.digest[:12]}), "
                f"these parts are {manifest.name!r} in {manifest.parts} parts ({manifest.digest[:12]}); "
                f"use {found.parts_dir} or a new --run-dir"
            )
        self._check_options(found.config, config)

    def _check_options(self, old: TrainConfig, new: TrainConfig) -> None:
        for name, value in new.to_json().items():
            before = getattr(old, name)
            if name not in MAY_CHANGE and value != before:
                option = name.replace("_", "-")
                raise UserError(
                    f"--{option} is {value}, the run in {self.path} was started with {before}; "
                    f"resume with --{option} {before} or name a new --run-dir"
                )

    def open(self) -> RunFacts:
        """What the run was asked for.

        Raises:
            ValueError: This is no run folder, or its config.json is broken.
        """
        path = self.path / "config.json"
        try:
            values = json.loads(path.read_text())
            return RunFacts(
                config=TrainConfig.from_json(values["config"]),
                parts_dir=Path(values["parts_dir"]),
                name=str(values["name"]),
                parts=int(values["parts"]),
                digest=str(values["digest"]),
                launch=str(values["launch"]),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.path} is no run folder: it has no config.json; see bnsgcn train"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}); train again into a new folder") from None

    def log_epoch(self, metrics: Mapping[str, float | int | None]) -> None:
        """Append what all ranks together measured in one epoch."""
        self._append("metrics.jsonl", metrics)

    def log_rank(self, rank: int, metrics: Mapping[str, float | int | None]) -> None:
        """Append what one rank measured in one epoch."""
        self._append(f"rank_{rank}.jsonl", metrics)

    def _append(self, name: str, metrics: Mapping[str, Any]) -> None:
        with (self.path / name).open("a") as file:
            file.write(json.dumps(_finite(dict(metrics))) + "\n")

    def rewind(self, epoch: int, rank: int) -> None:
        """Forget the lines of `epoch` and later ones before a resumed run writes them again.

        Rank 0 rewinds metrics.jsonl too.
        """
        for name in [f"rank_{rank}.jsonl", *(["metrics.jsonl"] if rank == 0 else [])]:
            path = self.path / name
            if path.exists():
                kept = [line for line in read_lines(path) if line["epoch"] < epoch]
                _write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; empty before the first epoch."""
        path = self.path / "metrics.jsonl"
        return list(read_lines(path)) if path.exists() else []

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, whole or not at all."""
        write_json(self.path / "summary.json", summary)

    def summary(self) -> dict[str, Any] | None:
        """What `write_summary` wrote; None where there is nothing, or nothing that can be read."""
        try:
            found = json.loads((self.path / "summary.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def log_error(self, rank: int, text: str) -> Path | None:
        """Keep the traceback of a rank that failed, in a folder that holds a run; where it is."""
        if not (self.path / "config.json").exists():
            return None
        path = self.path / "errors" / f"rank_{rank}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl file; a last line that a killed run left half written is dropped."""
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object as indented JSON, whole or not at all; numbers that are not finite become null."""
    _write_text(path, json.dumps(_finite(dict(values)), indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _finite(value: Any) -> Any:
    """The same value with null for infinities and NaN, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
