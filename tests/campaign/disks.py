"""Full disks: a small file system fills up while something is written to it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.campaign import runs
from tests.campaign.driver import Result, Unable, one_line, started

LIMIT_S = 120.0


@contextlib.contextmanager
def small_disk(folder: Path, nbytes: int) -> Iterator[Path]:
    """A file system of about `nbytes`, gone afterwards."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        raise Unable("a small file system needs Linux, root and mount")
    place = folder / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        raise Unable(f"file systems cannot be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Disks:
    """See the module."""

    name = "disks"
    promise = (
        "a full disk is one line, leaves nothing unfinished behind, and a run goes on when there is room"
    )

    def run(self, case: int, folder: Path) -> Result:
        """One full disk."""
        chance = random.Random(case)
        return (self._partition, self._train, self._predict)[case % 3](case, chance, folder)

    def _partition(self, case: int, chance: random.Random, folder: Path) -> Result:
        result = Result()
        with small_disk(folder, chance.randrange(20, 400) << 10) as disk:
            source = "synthetic:nodes=2000,degree=10,features=60"
            call = ("-m", "launch.cli", "partition", source, "--parts", "2", "--out", str(disk / "parts"))
            with started(*call) as process:
                ended = process.finish(LIMIT_S)
            self._judge(result, f"case {case}: partition", ended)
            result.expect(
                not list(disk.iterdir()), f"case {case}: partition left {list(disk.rglob('*'))[:3]}"
            )
        return result

    def _predict(self, case: int, chance: random.Random, folder: Path) -> Result:
        result = Result()
        run_dir = folder / "run"
        with started(*runs.train(run_dir, "exact", "--epochs", "2")) as process:
            assert process.finish(LIMIT_S) is not None
        with small_disk(folder, 4096) as disk:
            call = ("-m", "launch.cli", "predict", str(run_dir), "--out", str(disk / "logits.npy"))
            with started(*call) as process:
                ended = process.finish(LIMIT_S)
            self._judge(result, f"case {case}: predict", ended)
            result.expect(not list(disk.iterdir()), f"case {case}: predict left {list(disk.iterdir())}")
        return result

    def _train(self, case: int, chance: random.Random, folder: Path) -> Result:
        result, setting = Result(), sorted(runs.SETTINGS)[case % len(runs.SETTINGS)]
        expected = runs.reference(setting)
        with small_disk(folder, chance.randrange(12, 120) << 10) as disk:
            with started(*runs.train(disk / "run", setting)) as process:
                ended = process.finish(LIMIT_S)
            self._judge(result, f"case {case}: train", ended)
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            resume = ("--resume",) if (disk / "run" / "config.json").exists() else ()
            with started(*runs.train(disk / "run", setting, *resume)) as process:
                ended = process.finish(LIMIT_S)
            where = f"case {case}: train ({setting})"
            if result.expect(
                ended is not None and ended[0] == 0, f"{where}: with room again it ended as {ended}"
            ):
                wrong = runs.differences(runs.end_of(disk / "run"), expected)
                result.expect(not wrong, f"{where}: differs in {', '.join(wrong)}")
        return result

    @staticmethod
    def _judge(result: Result, where: str, ended: tuple[int, str, str] | None) -> None:
        if not result.expect(ended is not None, f"{where}: did not end"):
            return
        assert ended is not None
        status, _, err = ended
        result.expect(status in (1, 2), f"{where}: ended with status {status}")
        result.expect(one_line(err), f"{where}: printed {err[-300:]!r}")
