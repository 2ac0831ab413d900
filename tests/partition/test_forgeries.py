"""Hundreds of forged graphs, in a process of their own: a segmentation fault is one of the ways to fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRIED = 500
UNCHECKED = """
import sys, scipy.sparse as sp
from partition import errors, features
def believed(name, pieces):
    try:
        made = sp.csr_matrix((pieces.values, pieces.columns, pieces.splits), shape=pieces.shape).copy()
        made.sum_duplicates()
        return features._as_float32(made)
    except Exception as error:
        raise errors.UserError("scipy noticed") from error
features._checked_csr = believed
from tests.partition.forgeries import main
main(*sys.argv[1:])
"""


def run(folder: Path, *command: str, timeout_s: float = 250) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, *command, str(folder), "0", str(TRIED))
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)


def test_every_forgery_is_refused_in_one_line_or_harmless(tmp_path: Path) -> None:
    ended = run(tmp_path, "-m", "tests.partition.forgeries")
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-2000:])
    words = ended.stdout.split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert sum(counts.values()) == TRIED
    assert min(counts["read"], counts["refused"]) > TRIED // 10


def test_without_the_checks_the_same_forgeries_do_harm(tmp_path: Path) -> None:
    """Negative control: scipy by itself notices some of them, and of the others it dies or never ends."""
    try:
        assert run(tmp_path, "-c", UNCHECKED, timeout_s=20).returncode < 0
    except subprocess.TimeoutExpired:
        return  # it writes where it may not: what comes next is not always a crash
