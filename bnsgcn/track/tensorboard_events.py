"""RUN/tensorboard: scalars by the names of metrics.jsonl, the options as text, hyperparameters with scores.

One event an epoch, one file. A run that goes on has it written anew, with the times that its epochs had: what
a kill tore off is there again, and nothing is there twice, for readers that know of no purging too. Not by
torch's SummaryWriter: it writes in a thread, of whose death by a full disk the run would not hear in time.
"""

from __future__ import annotations

import io
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import append_whole, write_whole
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.tracker import Silent
from partition.optional import optional

FINAL = ("val_score", "test_score", "epoch_s_median", "peak_rss_bytes")
"""Of the summary, what the table of hyperparameters shows beside them."""


class TensorBoardEvents(Silent):
    """The event file."""

    def __init__(self, run_dir: Path) -> None:
        self._run, self._folder = RunFolder(run_dir), run_dir / "tensorboard"
        named = f"events.out.tfevents.{int(time.time()):010}.{platform.node()}.{os.getpid()}"
        self._path = self._folder / named
        self._config: dict[str, Any] = {}

    def on_start(self, facts: dict[str, Any]) -> None:
        """Write again what is there of the epochs before, and the options as text."""
        optional("tensorboard")
        self._config = facts["config"]
        at_s = self._times()
        text = optional("torch.utils.tensorboard.summary").text
        options = f"```json\n{json.dumps(self._config, indent=1)}\n```"
        content = [_record(file_version="brain.Event:2"), _record(text("config", options), step=0)]
        for line in self._run.metrics():
            content.append(_record(_scalars(line), step=line["epoch"], at_s=at_s.get(line["epoch"])))
        self._folder.mkdir(exist_ok=True)
        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        write_whole(self._path, b"".join(content))

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Add the epoch."""
        append_whole(self._path, _record(_scalars(metrics), step=int(metrics["epoch"])))

    def on_end(self, summary: dict[str, Any]) -> None:
        """Add the options as hyperparameters, and the final scores."""
        final = {f"final/{name}": float(summary[name]) for name in FINAL}
        options = {name: "none" if value is None else value for name, value in self._config.items()}
        pieces = optional("torch.utils.tensorboard.summary").hparams(options, final)
        step = int(summary["epochs"])
        content = [_record(piece, step=step) for piece in (*pieces, _scalars(final))]
        append_whole(self._path, b"".join(content))

    def _times(self) -> dict[int, float]:
        """When each epoch was written that is there, seconds since 1970."""
        if not self._folder.is_dir():
            return {}
        accumulators = optional("tensorboard.backend.event_processing.event_accumulator")
        found = accumulators.EventAccumulator(str(self._folder), size_guidance={"scalars": 0}).Reload()
        has_loss = "loss" in found.Tags()["scalars"]
        return {event.step: event.wall_time for event in (found.Scalars("loss") if has_loss else ())}


def _scalars(line: Mapping[str, Any]) -> Any:
    """A summary of the numbers of a line."""
    summaries = optional("tensorboard.compat.proto.summary_pb2").Summary
    numbers: Iterable[tuple[str, Any]] = (
        (name, value) for name, value in line.items() if name != "epoch" and isinstance(value, int | float)
    )
    return summaries(value=[summaries.Value(tag=name, simple_value=value) for name, value in numbers])


def _record(summary: Any = None, *, at_s: float | None = None, **fields: Any) -> bytes:
    """An event as it stands in the file."""
    event = optional("tensorboard.compat.proto.event_pb2").Event(
        wall_time=time.time() if at_s is None else at_s, summary=summary, **fields
    )
    file = io.BytesIO()
    optional("tensorboard.summary.writer.record_writer").RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()
