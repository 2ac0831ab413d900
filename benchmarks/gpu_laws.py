"""Laws on one GPU: 1, 2 and 4 ranks through gloo beside one CPU process, bits twice and after a stop.

Without a GPU the ranks run on a stand-in for its streams, which shows that this section works, and no more.
Where pytest is installed the whole list of laws is in `pytest -m gpu`; this needs torch alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.gpu_parts import COUNTS, parts_of
from benchmarks.gpu_section import Options, Section
from benchmarks.measure import table
from benchmarks.workloads import Skip
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.plan.bytes import RunBytes
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.gradients import FlatGradients
from bnsgcn.train.trainer import Trainer
from partition.store import open_part
from tests.multiprocess import run_ranks

EPOCHS, STOP = 8, 4
DOUBLE = TrainConfig(layers=3, hidden=6, heads=2, dropout=0.4, lr=0.004, dtype="float64")
SINGLE = dataclasses.replace(DOUBLE, dtype="float32", hidden=32)
STALE = dataclasses.replace(
    SINGLE,
    pipeline=True,
    sampling_rate=0.4,
    smooth_features=True,
    smooth_gradients=True,
    wire_dtype="int8",
)
EXACT = {
    "sage": DOUBLE,
    "gcn, weighted": dataclasses.replace(DOUBLE, model="gcn"),
    "gat": dataclasses.replace(DOUBLE, model="gat"),
    "sage, precomputed, features on the host": dataclasses.replace(DOUBLE, precompute=True, features="host"),
    "gcn, batch norm": dataclasses.replace(DOUBLE, model="gcn", norm="batch"),
}
TOLERANCE, LOSS_TOLERANCE = 1e-9, 1e-5


@dataclasses.dataclass
class Course:
    """What a rank saw of a run."""

    losses: list[float]
    weights: dict[str, np.ndarray]
    digest: str
    sent: list[tuple[int, int]]
    """Bytes of features and gradients of every epoch."""


def trainer_of(world: World, folder: Path, config: TrainConfig, run_dir: Path | None = None) -> Trainer:
    """A trainer of the options' model, outside any command line."""
    part = open_part(folder, world.rank)
    checkpoints = None if run_dir is None else Checkpoints(run_dir, world)
    return Trainer(world, part, build_model(part.manifest, config), config, checkpoints=checkpoints)


def course(world: World, folder: Path, config: TrainConfig, run_dir: Path | None = None) -> Course:
    """Some epochs; with `run_dir` another trainer takes over in the middle, from disk."""
    trainer = trainer_of(world, folder, config, run_dir)
    losses, sent = [], []
    for epoch in range(EPOCHS):
        if run_dir is not None and epoch == STOP:
            trainer.save()
            trainer = trainer_of(world, folder, config, run_dir)
            trainer.load("latest")
        measured = trainer.train_epoch()
        losses.append(measured["loss"])
        sent.append((int(measured["comm/sent_feature_bytes"]), int(measured["comm/sent_gradient_bytes"])))
    weights = {name: value.cpu().numpy() for name, value in trainer.model.state_dict().items()}
    digest = hashlib.sha256(b"".join(value.tobytes() for value in weights.values())).hexdigest()
    return Course(losses, weights, digest, sent)


def unsynchronised(world: World, folder: Path, config: TrainConfig) -> int:
    """Epochs that torch lets pass while it raises at whatever makes the host wait before the loss."""
    trainer, reduce = trainer_of(world, folder, config), FlatGradients.reduce
    trainer.train_epoch()

    def reduce_freely(*given: Any) -> torch.Tensor:
        torch.cuda.set_sync_debug_mode("default")
        return reduce(*given)

    with mock.patch.object(FlatGradients, "reduce", reduce_freely):
        for _ in range(2):
            torch.cuda.set_sync_debug_mode("error")
            trainer.train_epoch()
    return trainer.progress.epoch


class _Laws:
    """The checks, one after another; a row each: what, on how many ranks, found, held."""

    def __init__(self, root: Path, scratch: Path, device: str) -> None:
        self._root, self._scratch, self._device = root, scratch, device
        self.rows: list[tuple[str, str, str, bool]] = []

    def ranks(self, kind: str, count: int, config: TrainConfig, *more: Any) -> list[Course]:
        """A run on the device."""
        folder = parts_of(self._root, kind, count)
        found: list[Course] = run_ranks(
            course, count, self._scratch, folder, config, *more, timeout_s=240, device=self._device
        )
        return found

    def one_process(self) -> None:
        """Law 1: losses and weights are those of one process on CPU."""
        for name, config in EXACT.items():
            kind = "weighted" if "weighted" in name else "single"
            near = dataclasses.replace(config, kernel="torch", features="device")
            reference = course(World.single(), parts_of(self._root, kind, 1), near)
            for count in COUNTS:
                worst = max(_difference(rank, reference) for rank in self.ranks(kind, count, config))
                self.note(
                    f"equals one CPU process, float64: {name}", count, f"{worst:.1e}", worst < TOLERANCE
                )

    def losses(self) -> None:
        """In float32 the losses of several ranks are those of one."""
        one = self.ranks("single", 1, SINGLE)[0].losses
        for count in COUNTS[1:]:
            found = self.ranks("single", count, SINGLE)[0].losses
            worst = max(abs(a - b) / abs(b) for a, b in zip(found, one, strict=True))
            self.note("losses of one rank, float32", count, f"{worst:.1e}", worst < LOSS_TOLERANCE)

    def bits(self) -> None:
        """Law 5: the same bits twice, and after a stop; law 6: the bytes that the planner counts."""
        for name, config in {"exact": SINGLE, "stale, sampled, smoothed, int8": STALE}.items():
            first, again = (self.ranks("single", 2, config) for _ in range(2))
            run_dir = self._scratch / name.partition(",")[0]
            stopped = self.ranks("single", 2, config, run_dir)
            digests = {rank.digest for rank in (*first, *again, *stopped)}
            self.note(f"same bits twice and resumed: {name}", 2, f"{len(digests)} results", len(digests) == 1)
            parts = [open_part(parts_of(self._root, "single", 2), index) for index in range(2)]
            planned = RunBytes(parts, config)
            expected = [planned.epoch(epoch).per_rank() for epoch in range(EPOCHS)]
            same = all(rank.sent[e] == expected[e][r] for r, rank in enumerate(first) for e in range(EPOCHS))
            self.note(f"bytes as planned: {name}", 2, f"{sum(map(sum, first[0].sent)):,} B", same)

    def host_waits(self) -> None:
        """The host waits for the loss alone."""
        for name, config in {"exact": SINGLE, "stale, sampled, smoothed, int8": STALE}.items():
            folder = parts_of(self._root, "single", 2)
            epochs = run_ranks(unsynchronised, 2, self._scratch, folder, config, device=self._device)
            self.note(
                f"no wait of the host before the loss: {name}", 2, f"{epochs[0]} epochs", epochs == [3, 3]
            )

    def counted_waits(self) -> None:
        """The same on CPU, by what torch dispatches; needs pytest, as the tests do."""
        try:
            from tests.bnsgcn.test_no_host_waits import BASE, host_reads
        except ImportError:
            return
        found = run_ranks(
            host_reads, 2, self._scratch, parts_of(self._root, "single", 2), BASE, device="late"
        )
        reads, waits = found[0]
        said = f"{sum(reads.values())} read (the loss), {waits} wait (gloo adds the gradients)"
        self.note("reads and waits of the host in an epoch", 2, said, (sum(reads.values()), waits) == (1, 1))

    def note(self, what: str, count: int, found: str, held: bool) -> None:
        """One check's row."""
        self.rows.append((what, str(count), found, held))


def _difference(mine: Course, theirs: Course) -> float:
    differences = [abs(a - b) for a, b in zip(mine.losses, theirs.losses, strict=True)]
    differences += [float(np.abs(mine.weights[name] - theirs.weights[name]).max()) for name in theirs.weights]
    return max(differences)


def measure(options: Options) -> Section:
    """All of it; Skip where the parts cannot be had."""
    device = "cuda" if torch.cuda.is_available() else "late"
    with tempfile.TemporaryDirectory(prefix="bnsgcn-laws-") as name:
        scratch = Path(name)
        laws = _Laws(options.parts or scratch, scratch, device)
        try:
            parts_of(options.parts or scratch, "single", 1)
        except ImportError as reason:
            raise Skip(f"{reason}; carry parts here, see benchmarks/gpu_parts.py") from reason
        laws.one_process()
        laws.losses()
        laws.bits()
        if device == "cuda":
            laws.host_waits()
        else:
            laws.counted_waits()
    broken = [row for row in laws.rows if not row[3]]
    where = "on the GPU, through gloo" if device == "cuda" else "on a CPU stand-in, not run on a device"
    body = table(
        ["law", "ranks", "found", "holds"],
        [[what, count, found, "yes" if held else "**NO**"] for what, count, found, held in laws.rows],
    )
    not_run = [] if device == "cuda" else ["not run on a device: the rows above are of the stand-in"]
    if broken:
        print("\n".join(f"DOES NOT HOLD: {row[0]} on {row[1]} ranks: {row[2]}" for row in broken))
    return Section(title=f"Laws, {where}", body=body, raw=[list(row) for row in laws.rows], not_run=not_run)
