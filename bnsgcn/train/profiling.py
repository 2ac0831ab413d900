"""`--profile`: some epochs under torch's profiler, written down on every rank; see record/trace.py.

A run without it has nothing of this: its lanes and spans are plain ones (see `make_stage`), its modules have
no hooks, and its epochs are called directly.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bnsgcn.dist import World
from bnsgcn.record.trace import CLOCK, finished, read_trace, write_trace
from bnsgcn.train.progress import Progress
from partition.errors import one_line

CLOCKS = 10
"""Comparisons of clocks; the first ones are slow."""
Epoch: TypeAlias = Callable[[], dict[str, float]]


class Profile:
    """Traces the epochs `chosen` of this rank, evaluations between them included."""

    def __init__(
        self, world: World, model: torch.nn.Module, progress: Progress, chosen: range, run_dir: Path
    ) -> None:
        self._world, self._model, self._progress, self._chosen = world, model, progress, chosen
        self._folder = run_dir / "profile"
        self._open: contextlib.ExitStack | None = None
        self._profiler: profile | None = None
        self._first = 0
        self.facts: dict[str, Any] = {}
        """What the summary says of it, once it is written."""

    def around(self, train_epoch: Epoch) -> Epoch:
        """`train_epoch`, traced in the epochs that were chosen. Collective."""

        def traced() -> dict[str, float]:
            epoch = self._progress.epoch
            if epoch in self._chosen and self._open is None:
                self._begin()
            measured = train_epoch()
            if epoch + 1 == self._chosen.stop:
                self.close()
            return measured

        return traced

    def _begin(self) -> None:
        self._first = self._progress.epoch
        activities = [ProfilerActivity.CPU]
        if self._world.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or it prints that it has started
        self._open = contextlib.ExitStack()
        self._open.enter_context(_modules_marked(self._model))
        self._profiler = self._open.enter_context(profile(activities=activities))
        _compare_clocks()

    def close(self) -> None:
        """Write down what was traced; `facts` says where a full disk kept it from that. Collective."""
        if self._open is None or self._profiler is None:
            return
        if self._world.device.type == "cuda":
            torch.cuda.synchronize(self._world.device)
        _compare_clocks()
        self._open.close()
        rank, names = self._world.rank, [f"rank_{rank}.raw.json" for rank in range(self._world.size)]
        with self._failure_noted():
            self._folder.mkdir(exist_ok=True)
            self._profiler.export_chrome_trace(str(self._folder / names[rank]))
            own = read_trace(rank, self._folder / names[rank])
            write_trace(self._folder / f"rank_{rank}.json.gz", finished([own]))
            first, last = self._first + 1, self._progress.epoch
            epochs = f"{first}-{last}" if last > first else str(first)
            self.facts = {"epochs": epochs, "largest": own.largest()}
        self._open = self._profiler = None
        self._world.barrier()  # all are written
        if rank == 0:
            with self._failure_noted():
                ranks = [read_trace(rank, self._folder / name) for rank, name in enumerate(names)]
                write_trace(self._folder / "ranks.json.gz", finished(ranks))
            with contextlib.suppress(OSError):
                for name in names:
                    (self._folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _failure_noted(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # no room, or a file of another rank that was cut short
            self.facts.setdefault("failed", one_line(error))


def _compare_clocks() -> None:
    for _ in range(CLOCKS):
        with record_function(f"{CLOCK}{time.time_ns()}"):
            pass


@contextlib.contextmanager
def _modules_marked(model: torch.nn.Module) -> Iterator[None]:
    """Forward passes of the model and of the modules in it are slices of the trace, by their names."""
    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            words = f"{name} {type(module).__name__}".strip()
            marks: list[record_function] = []

            def enter(*_: Any, words: str = words, marks: list[record_function] = marks) -> None:
                marks.append(record_function(words))
                marks[-1].__enter__()

            def leave(*_: Any, marks: list[record_function] = marks) -> None:
                marks.pop().__exit__(None, None, None)

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield
