"""Runs that differ in their seed alone: each of them, and what a leaderboard asks of all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bnsgcn.api.trained import Run
from bnsgcn.record.json_file import read_object
from bnsgcn.record.seeds import SEEDS_NAME, entry, folder_of_seed, number
from partition.errors import UserError


class SeedRuns:
    """What `bnsgcn.train_seeds` gives; `SeedRuns(folder)` opens what was trained before.

    Raises:
        UserError: no seeds were trained there, or not to their end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.summary: dict[str, Any] = read_object(self.path / SEEDS_NAME)
        except OSError as error:
            raise UserError(
                f"{self.path} has no {SEEDS_NAME} ({error.strerror}); train there with --seeds first"
            ) from error

    def __repr__(self) -> str:
        return f"SeedRuns({str(self.path)!r}, {self.entry.splitlines()[0].strip()})"

    @property
    def runs(self) -> dict[int, Run]:
        """The run of each seed."""
        return {seed: Run(folder_of_seed(self.path, seed)) for seed in self.summary["seeds"]}

    @property
    def test_score(self) -> tuple[float, float]:
        """Mean and sample standard deviation over the seeds, of the test nodes."""
        return self._spread("test_score")

    @property
    def val_score(self) -> tuple[float, float]:
        """The same of the validation nodes."""
        return self._spread("val_score")

    @property
    def entry(self) -> str:
        """What an OGB leaderboard asks for: scores, number of parameters, hardware."""
        return "\n".join(entry(self.summary))

    def _spread(self, score: str) -> tuple[float, float]:
        return number(self.summary[f"{score}_mean"]), number(self.summary[f"{score}_std"])
