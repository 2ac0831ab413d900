"""The examples are found as a user's own files are: by the folder that they are in."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bnsgcn.conftest import _kernels_compiled, parts_folder

__all__ = ["_kernels_compiled", "parts_folder"]

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
