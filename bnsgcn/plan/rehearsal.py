"""A short training that the planner learns from: a few exact epochs, and a few that exchange much less.

`measure_epochs` is what each worker does; `calibrated` compares what was measured with what was predicted and
puts into the machine what explains the difference:

    | of the machine                    | from                                                              |
    |-----------------------------------|-------------------------------------------------------------------|
    | compute_factor                    | processor time of the computing thread, exact epochs              |
    | exchange_factor                   | the same in the other epochs, beyond what exact ones would take   |
    | message_s, transport_bytes_per_s  | processor time of the threads that move rows, both kinds          |
    | latency_s                         | the delay of messages that makes the played epoch last as long    |
    | base_bytes, memory_factor         | memory before anything was read, and at its peak, evaluation too  |

Processor times hardly depend on what else the machine does; only the delay is taken from the clock.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnsgcn.capacity import core_count
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn.models import build_model
from bnsgcn.plan.by_hand import by_hand
from bnsgcn.plan.costs import Prediction, predictions
from bnsgcn.plan.machine import Machine
from bnsgcn.record.rss import peak_rss_bytes, rss_bytes
from bnsgcn.train.trainer import Trainer
from partition.store import open_part

WARM_UP, EPOCHS = 3, 6
_LATENCIES_S = (1e-5, 5e-2)
_FACTORS = (0.2, 20.0)


def exact(config: TrainConfig) -> TrainConfig:
    """`config` with an exact exchange, and nothing that a short run has no use for."""
    return dataclasses.replace(
        by_hand(config),
        sampling_rate=1.0,
        halo_cache=False,
        pipeline=False,
        smooth_features=False,
        smooth_gradients=False,
        wire_dtype="fp32",
        gradient_wire_dtype=None,
        telemetry_every=0,
        track=None,
        profile=None,
        resume=False,
    )


def coarse(config: TrainConfig) -> TrainConfig:
    """`config` with everything at once that exchanges less."""
    return dataclasses.replace(
        exact(config),
        sampling_rate=0.1,
        sampler="importance",
        pipeline=True,
        smooth_features=True,
        smooth_gradients=True,
        wire_dtype="int8",
    )


def measure_epochs(world: World, parts_dir: str | Path, config: TrainConfig) -> dict[str, Any]:
    """This worker's measurements of both kinds of epochs, and its memory. Collective."""
    process_bytes = rss_bytes()
    measured = {"exact": _rehearsed(world, parts_dir, exact(config))}
    memory = {"process_bytes": process_bytes, "peak_bytes": peak_rss_bytes()}
    if world.size > 1:
        measured["coarse"] = _rehearsed(world, parts_dir, coarse(config))
    return measured | memory


def _rehearsed(world: World, parts_dir: str | Path, config: TrainConfig) -> dict[str, float]:
    """Medians over a few epochs."""
    part = open_part(parts_dir, world.rank, verify=False)
    trainer = Trainer(world, part, build_model(part.manifest, config), config)
    for _ in range(WARM_UP):
        trainer.train_epoch()
    trainer.evaluate()  # what it keeps is there during the epochs after it
    found = [_epoch(trainer, world) for _ in range(EPOCHS)]
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def _epoch(trainer: Trainer, world: World) -> dict[str, float]:
    """An epoch by the clock, and the processor's time of this thread and of those beside it."""
    world.barrier()
    thread_s, process_s = time.thread_time(), time.process_time()
    measured = trainer.train_epoch()
    thread_s, process_s = time.thread_time() - thread_s, time.process_time() - process_s
    alone = world.device.type == "cpu"
    return {
        "epoch_s": measured["time/epoch_s"],
        "waiting_s": measured["time/halo_wait_s"] + measured["time/reduce_s"],
        "compute_s": thread_s if alone else measured["time/compute_s"],
        "transport_s": process_s - thread_s,
    }


def calibrated(
    parts_dir: str | Path, config: TrainConfig, machine: Machine, ranks: Sequence[Mapping[str, Any]]
) -> Machine:
    """`machine` as it shows itself in a rehearsal; `ranks` [P] is what the workers measured."""
    whole, less = predictions(parts_dir, [exact(config), coarse(config)], machine)
    memory = _memory(whole, machine, ranks)
    factor = _within(_mean(ranks, "exact", "compute_s") / whole.plain_s)
    machine = dataclasses.replace(machine, compute_factor=factor, **memory)
    if len(ranks) == 1:
        return machine
    beyond = _mean(ranks, "coarse", "compute_s") - factor * less.plain_s
    machine = dataclasses.replace(machine, exchange_factor=_within(beyond / less.extra_s))
    if (config.threads or core_count() // len(ranks)) <= 1:  # of more, those beside the first compute too
        machine = dataclasses.replace(machine, **_transport(whole, less, ranks))
    seconds = max(rank["exact"]["epoch_s"] for rank in ranks)
    return dataclasses.replace(machine, latency_s=_latency_s(parts_dir, exact(config), machine, seconds))


def _mean(ranks: Sequence[Mapping[str, Any]], kind: str, name: str) -> float:
    return statistics.fmean(rank[kind][name] for rank in ranks)


def _within(factor: float) -> float:
    low, high = _FACTORS
    return min(high, max(low, factor))


def _memory(whole: Prediction, machine: Machine, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    base = round(statistics.fmean(rank["process_bytes"] for rank in ranks))
    grown = max(rank["peak_bytes"] for rank in ranks) - base
    predicted = whole.plan().peak_bytes - machine.base_bytes
    return {"base_bytes": base, "memory_factor": grown / max(1, predicted)}


def _transport(whole: Prediction, less: Prediction, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a message and a byte take at either end, by two kinds of epochs with as many messages."""
    (messages, nbytes), (_, fewer) = whole.traffic, less.traffic
    if messages == 0 or nbytes <= fewer:
        return {}
    long, short = (_mean(ranks, kind, "transport_s") for kind in ("exact", "coarse"))
    byte_s = max(0.0, long - short) / (nbytes - fewer)
    message_s = max(0.0, short - byte_s * fewer) / messages
    return {"message_s": message_s, "transport_bytes_per_s": 1 / max(byte_s, 1e-12)}


def _latency_s(parts_dir: str | Path, config: TrainConfig, machine: Machine, seconds: float) -> float:
    """The delay of messages with which a planned epoch takes `seconds`, by bisection."""
    low, high = _LATENCIES_S
    for _ in range(12):
        middle = (low * high) ** 0.5
        tried = dataclasses.replace(machine, latency_s=middle)
        planned = predictions(parts_dir, [config], tried)[0].plan().epoch_s
        low, high = (middle, high) if planned < seconds else (low, middle)
    return low
