"""Small graphs' parts, as in the tests of bnsgcn."""

from __future__ import annotations

from tests.bnsgcn.conftest import parts_folder

__all__ = ["parts_folder"]
