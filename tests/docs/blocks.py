"""The code blocks of README.md and of the pages, and what is made of them without a site.

A block is run, unless the comment above it says `<!-- parsed: why -->`: then its words are checked alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

from launch.recipes import recipe

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?:<!-- (?P<marker>[^\n]*?) -->\n)?(?P<in> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=in)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class CodeBlock:
    page: Path
    line: int
    marker: str
    language: str
    code: str

    @property
    def runs(self) -> bool:
        return not self.marker.startswith("parsed: ")

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md and the pages that are written by hand."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, *languages: str) -> list[CodeBlock]:
    text = page.read_text()
    return [
        CodeBlock(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["marker"] or "",
            found["language"],
            found["code"],
        )
        for found in FENCE.finditer(text)
        if found["language"] in languages
    ]


def commands(code: str) -> list[list[str]]:
    """The commands of a shell block as words, with the answers of `python -m launch.recipes` filled in."""
    joined = code.replace("\\\n", " ")
    known = re.sub(r"\$\(python -m launch\.recipes (\S+)\)", lambda found: str(recipe(found[1])), joined)
    return [words for line in known.splitlines() if (words := shlex.split(line, comments=True))]


def from_code() -> ModuleType:
    """What the site is made with: docs/from_code.py."""
    spec = importlib.util.spec_from_file_location("from_code", ROOT / "docs" / "from_code.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
