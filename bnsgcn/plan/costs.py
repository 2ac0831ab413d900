"""What a run will cost, before it is run: memory, bytes and epoch time of every worker.

Bytes are exact (bytes.py). Memory is an estimate from sizes (memory.py); time is that of the steps of all
workers (work.py), played together (timeline.py) at the rates of a machine (machine.py). One process, parts
memory-mapped; nothing is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnsgcn.config import TrainConfig
from bnsgcn.plan.bytes import EpochBytes, RunBytes
from bnsgcn.plan.device_memory import device_bytes
from bnsgcn.plan.machine import IDLE_LATENCY_S, Machine
from bnsgcn.plan.memory import PlannedSizes, parameter_count, worker_bytes
from bnsgcn.plan.timeline import Network, Played, play
from bnsgcn.plan.work import EpochWork
from partition.store import Part, open_part, read_manifest

STEADY_EPOCH = 2
"""The epoch that stands for all: past the first ones of pipeline and cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankPlan:
    """One worker's share."""

    rank: int
    inner_rows: int
    halo_slots: int
    arcs_per_epoch: int
    sent_bytes: int
    received_bytes: int
    compute_s: float
    """Computing, among workers that share its cores."""
    exposed_s: float
    """Waiting for rows, and for the other workers at the end."""
    memory_bytes: dict[str, int]
    """By what it is for; see memory.py."""
    device_bytes: dict[str, int]
    """Of it what is on the worker's GPU; see device_memory.py. Empty on CPU."""

    @property
    def peak_bytes(self) -> int:
        """All of it."""
        return sum(self.memory_bytes.values())

    @property
    def peak_device_bytes(self) -> int:
        """All that is on its GPU."""
        return sum(self.device_bytes.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run of `config` on a folder of parts costs."""

    config: TrainConfig
    name: str
    parts: int
    ranks: tuple[RankPlan, ...]
    sent: EpochBytes
    reduce_bytes: int
    reduce_s: float
    epoch_s: float
    """All workers' epoch: each begins with the reduction of the one before."""
    machine: Machine

    @property
    def peak_bytes(self) -> int:
        """The largest worker's memory."""
        return max(rank.peak_bytes for rank in self.ranks)

    @property
    def fits(self) -> bool:
        """Whether every worker's GPU has room for it, where one is meant and is here."""
        have = self.machine.device_bytes
        return have is None or all(rank.peak_device_bytes <= have for rank in self.ranks)

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for json.dump."""
        ranks = [dataclasses.asdict(rank) | {"peak_bytes": rank.peak_bytes} for rank in self.ranks]
        layers = [dataclasses.asdict(layer) for layer in self.sent.layers]
        for layer in layers:
            del layer["pairs"]
        return {
            "name": self.name,
            "parts": self.parts,
            "config": self.config.to_json(),
            "machine": dataclasses.asdict(self.machine),
            "epoch_s": self.epoch_s,
            "reduce_s": self.reduce_s,
            "reduce_bytes": self.reduce_bytes,
            "peak_bytes": self.peak_bytes,
            "sent_bytes_per_epoch": self.sent.sent_bytes,
            "sent_feature_bytes": self.sent.feature_bytes,
            "sent_gradient_bytes": self.sent.gradient_bytes,
            "layers": layers,
            "per_rank": ranks,
        }


def plan(parts_dir: str | Path, config: TrainConfig, machine: Machine | None = None) -> RunPlan:
    """The cost of one run; `machine` is measured when not given.

    Raises:
        UserError: the folder is not one of parts, see `open_part`.
    """
    return plans(parts_dir, [config], machine)[0]


def plans(
    parts_dir: str | Path, configs: Sequence[TrainConfig], machine: Machine | None = None
) -> list[RunPlan]:
    """The costs of several runs on the same parts, whose adjacency is read once."""
    return [each.plan() for each in predictions(parts_dir, configs, machine)]


def predictions(
    parts_dir: str | Path, configs: Sequence[TrainConfig], machine: Machine | None = None
) -> list[Prediction]:
    """What the costs of several runs are worked out from."""
    parts = all_parts(parts_dir)
    rates = machine or Machine.measure(configs[0], parts=parts)
    found, known = [], None
    for config in configs:
        known = RunBytes(parts, config, known)
        found.append(Prediction(parts, config, known, rates))
    return found


def all_parts(parts_dir: str | Path) -> list[Part]:
    """Every part of a folder, memory-mapped."""
    manifest = read_manifest(parts_dir)
    return [open_part(Path(parts_dir), index, verify=False) for index in range(manifest.parts)]


class Prediction:
    """The estimates of one configuration."""

    def __init__(self, parts: Sequence[Part], config: TrainConfig, sent: RunBytes, machine: Machine) -> None:
        self._parts, self._config, self._machine = parts, config, machine
        self._manifest = parts[0].manifest
        self._epoch = sent.epoch(STEADY_EPOCH)
        sizes = PlannedSizes(parts, config, sent)
        self._sizes = [sizes.on(part) for part in parts]
        self._work = [
            EpochWork(part, layers, self._epoch, config, machine)
            for part, layers in zip(parts, self._sizes, strict=True)
        ]

    @property
    def plain_s(self) -> float:
        """Computing of an epoch, factors, draws, packing and smoothing left out; mean over workers."""
        return self._mean("seconds")

    @property
    def extra_s(self) -> float:
        """Draws, packing and smoothing without factors; mean over workers."""
        return self._mean("extra_s")

    @property
    def traffic(self) -> tuple[float, float]:
        """Messages and bytes that a worker sends and receives in an epoch; mean over workers."""
        counts = [
            count for lane in self._epoch.layers for matrix in lane.pairs for row in matrix for count in row
        ]
        workers = len(self._parts)
        return 2 * sum(1 for count in counts if count) / workers, 2 * sum(counts) / workers

    def _mean(self, field: str) -> float:
        steps = [step for work in self._work for step in work.steps()]
        total: float = sum(getattr(step, field) for step in steps)
        return total / len(self._parts)

    def plan(self) -> RunPlan:
        """All costs, with the workers played together."""
        parts, config, machine = len(self._parts), self._config, self._machine
        sizes = self._manifest.num_features, self._manifest.num_classes
        reduce_bytes = (parameter_count(config, *sizes) + 1) * config.number_bytes if parts > 1 else 0
        network = Network(
            bytes_per_s=machine.link_bytes_per_s,
            latency_s=machine.latency_s,
            reduce_s=_reduce_s(reduce_bytes, parts, machine),
        )
        factors = machine.compute_factor, machine.exchange_factor
        played = play([work.steps() for work in self._work], network, machine.cores, factors)
        return RunPlan(
            config=config,
            name=self._manifest.name,
            parts=parts,
            ranks=tuple(self._rank(part, played) for part in self._parts),
            sent=self._epoch,
            reduce_bytes=reduce_bytes,
            reduce_s=network.reduce_s,
            epoch_s=played.epoch_s,
            machine=machine,
        )

    def _rank(self, part: Part, played: Played) -> RankPlan:
        rank, machine, lanes = part.index, self._machine, self._epoch.layers
        memory = self._memory(part)
        on_gpu = self._config.device == "cuda" or machine.device_bytes is not None
        return RankPlan(
            rank=rank,
            inner_rows=part.num_inner,
            halo_slots=part.num_halo,
            arcs_per_epoch=self._work[rank].arcs,
            sent_bytes=sum(lane.feature_bytes[rank] + lane.gradient_bytes[rank] for lane in lanes),
            received_bytes=sum(row[rank] for lane in lanes for matrix in lane.pairs for row in matrix),
            compute_s=played.computing_s[rank],
            exposed_s=played.waiting_s[rank],
            memory_bytes=memory,
            device_bytes=device_bytes(memory, self._manifest, self._config) if on_gpu else {},
        )

    def _memory(self, part: Part) -> dict[str, int]:
        machine = self._machine
        predicted = worker_bytes(self._sizes[part.index], part, self._config, machine.base_bytes)
        process = {"process": predicted.pop("process")}
        return process | {name: round(machine.memory_factor * count) for name, count in predicted.items()}


def _reduce_s(nbytes: int, parts: int, machine: Machine) -> float:
    """A ring: every worker passes on a share of all that is summed, twice around."""
    turns = 2 * (parts - 1)
    return turns * (min(IDLE_LATENCY_S, machine.latency_s) + nbytes / parts / machine.link_bytes_per_s)
