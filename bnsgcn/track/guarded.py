"""A tracker that fails ends nothing but itself."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnsgcn.record.tracker import Silent, Tracker
from bnsgcn.show.say import warn
from partition.errors import UserError, one_line


class Guarded(Silent):
    """A tracker that is left out from where it fails on; one line says so, and the run goes on.

    Where it fails at the start, before anything is trained, the run does not begin.
    """

    def __init__(self, name: str, tracker: Tracker, run_dir: Path) -> None:
        self._name, self._tracker, self._run_dir = name, tracker, run_dir

    def on_start(self, facts: dict[str, Any]) -> None:
        """Tell the tracker.

        Raises:
            UserError: It failed.
        """
        try:
            self._tracker.on_start(facts)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"--track {self._name} cannot start ({self._reason(error)}); put it right or leave it out"
            ) from error

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Tell the tracker, as long as it has not failed."""
        self._try(lambda: self._tracker.on_epoch(metrics), f"in epoch {int(metrics['epoch']) + 1}")

    def on_end(self, summary: dict[str, Any]) -> None:
        """Tell the tracker, unless it has failed."""
        self._try(lambda: self._tracker.on_end(summary), "at the end")

    def _try(self, tell: Callable[[], None], when: str) -> None:
        try:
            tell()
        except Exception as error:
            self._tracker = Silent()
            warn(
                f"--track {self._name} failed {when} ({self._reason(error)}); "
                f"the run goes on without it, metrics.jsonl has everything"
            )

    def _reason(self, error: Exception) -> str:
        """One line; of what is no trouble with files the traceback is kept in the run folder."""
        if isinstance(error, OSError | UserError):
            return one_line(error)
        kept = self._run_dir / "errors" / f"track_{self._name}.txt"
        said = f"{type(error).__name__}: {one_line(error)}"
        with contextlib.suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            kept.write_text("".join(traceback.format_exception(error)), errors="backslashreplace")
            said += f"; its traceback is in {kept}"
        return said
