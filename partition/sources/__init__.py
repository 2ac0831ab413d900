"""SOURCE strings: one grammar and one registry.

    KIND[:TARGET][,KEY=VALUE ...]        npz:graphs/cora.npz,features=degree
    KIND[:KEY=VALUE[,KEY=VALUE ...]]     synthetic:nodes=1000,seed=3

| kind      | target                | options besides those below                         |
|-----------|-----------------------|-----------------------------------------------------|
| synthetic | none                  | see sources/synthetic.py                            |
| npz       | a file                | label=KEY (another label array), split_seed=N       |
| ogb       | a data set name       | root=FOLDER                                         |
| dgl       | a data set or folder  | root=FOLDER                                         |
| pyg       | Class/Name            | root=FOLDER                                         |

Options of every kind but synthetic: `directed=true` keeps arcs as they are (default: symmetrised),
`features=degree` and `features=random:64` make node features where there are none (or instead of
those there are), `split_seed=0` seeds the 60/20/20 split of a source without one,
`scratch=FOLDER` keeps the adjacency in a file there, memory-mapped, instead of in memory.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Protocol, cast

from partition.errors import UserError, nearest
from partition.graph import Graph

KINDS = ("synthetic", "npz", "ogb", "dgl", "pyg")
_TRAILING_OPTION = re.compile(r"^(?P<head>.*?)(?:^|,)(?P<key>[a-z_]+)=(?P<value>[^,=]*)$", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """A SOURCE string taken apart."""

    kind: str
    target: str
    options: dict[str, str]
    text: str

    def only(self, *allowed: str) -> None:
        """ValueError, with the nearest name, for an option that this kind does not have."""
        for key in self.options:
            if key not in allowed:
                raise UserError(
                    f"{self.text}: {self.kind} has no option '{key}'{nearest(key, allowed)}; "
                    f"it has: {', '.join(sorted(allowed))}"
                )

    def integer(self, key: str, default: int) -> int:
        """Whole-number option."""
        return int(self._number(key, int, default, "a whole number"))

    def real(self, key: str, default: float) -> float:
        """Real-valued option."""
        return float(self._number(key, float, default, "a number"))

    def flag(self, key: str, default: bool = False) -> bool:
        """Option that is true or false."""
        text = self.options.get(key, "true" if default else "false").lower()
        if text not in ("true", "false"):
            raise UserError(f"{self.text}: {key}={self.options[key]} is neither true nor false")
        return text == "true"

    def folder(self, key: str) -> Path | None:
        """Option that names a folder."""
        return Path(self.options[key]).expanduser() if key in self.options else None

    def _number(self, key: str, kind: type[int] | type[float], default: float, what: str) -> float:
        try:
            return kind(self.options[key].replace("_", "")) if key in self.options else default
        except ValueError:
            raise UserError(f"{self.text}: {key}={self.options[key]} is not {what}") from None


class Loader(Protocol):
    """What a module of this package exports as `load`."""

    def __call__(self, spec: SourceSpec) -> Graph:
        """The graph of `spec`."""


def parse(source: str) -> SourceSpec:
    """Take a SOURCE string apart; ValueError with the nearest kind for an unknown one."""
    kind, _, rest = source.partition(":")
    if kind.lower() not in KINDS:
        raise UserError(
            f"unknown source '{source}'{nearest(kind.lower(), KINDS)}; a source is KIND:REST with KIND one "
            f"of {', '.join(KINDS)}, for example npz:graph.npz"
        )
    options: dict[str, str] = {}
    while match := _TRAILING_OPTION.match(rest):
        options.setdefault(match["key"], match["value"])
        rest = match["head"]
    return SourceSpec(kind.lower(), rest, options, source)


def load(source: str) -> Graph:
    """The graph that `source` names; ValueError, one line, for anything wrong with it."""
    spec = parse(source)
    module = importlib.import_module(f"partition.sources.{spec.kind}")
    return cast(Loader, module.load)(spec)
