"""SOURCE strings: one grammar and one registry.

    KIND[:TARGET][,KEY=VALUE ...]        npz:graphs/cora.npz,features=degree
    KIND[:KEY=VALUE[,KEY=VALUE ...]]     synthetic:nodes=1000,seed=3

| kind      | target                | options besides those below                         |
|-----------|-----------------------|-----------------------------------------------------|
| synthetic | none                  | see sources/synthetic.py                            |
| npz       | a file                | label=KEY (another label array), split=K of its own |
| ogb       | a data set name       | root=FOLDER                                         |
| dgl       | a data set or folder  | root=FOLDER                                         |
| pyg       | Class/Name            | root=FOLDER                                         |

Options of every kind but synthetic: `directed=true` keeps arcs as they are (default: symmetrised),
`features=degree` and `features=random:64` make node features where there are none (or instead of
those there are), and `features=sparse` or `features=dense` store those there are so, instead of sparse
where that pays; `split_seed=0` seeds the 60/20/20 split of a source without one,
`scratch=FOLDER` keeps the adjacency in a file there, memory-mapped, instead of in memory.
`edge_weights=ignore` (npz, dgl, pyg) leaves out the edge weights that a source has.
Of every kind: `features=standardise`, `features=row`, `split=random`, `split=planetoid`; see asked.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from partition.errors import UserError, nearest, one_line
from partition.graph import Graph
from partition.labels import checked_seed
from partition.scaling import ScalingKind
from partition.sources.asked import taken_out

KINDS = ("synthetic", "npz", "ogb", "dgl", "pyg")
_TRAILING_OPTION = re.compile(r"^(?P<head>.*?)(?:^|,)(?P<key>[a-z_]+)=(?P<value>[^,=]*)$", re.DOTALL)


def _silent(_: str) -> None:
    return


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """A SOURCE string taken apart."""

    kind: str
    target: str
    options: dict[str, str]
    text: str
    say: Callable[[str], None] = _silent
    """Told what takes long while reading."""

    def only(self, *allowed: str) -> None:
        """UserError, with the nearest name, for an option that this kind does not have."""
        for key in self.options:
            if key not in allowed:
                raise UserError(
                    f"{self.text}: {self.kind} has no option '{key}'{nearest(key, allowed)}; "
                    f"it has: {', '.join(sorted(allowed))}"
                )

    def integer(self, key: str, default: int) -> int:
        """Whole-number option."""
        return int(self._number(key, int, default, "a whole number"))

    def seed(self, key: str) -> int:
        """Option that seeds a generator; 0 where it is absent."""
        return checked_seed(f"{self.text}: {key}", self.integer(key, 0))

    def real(self, key: str, default: float) -> float:
        """Real-valued option; infinity and NaN are no numbers here."""
        number = float(self._number(key, float, default, "a number"))
        if not math.isfinite(number):
            raise UserError(f"{self.text}: {key}={self.options[key]} is not a finite number")
        return number

    def flag(self, key: str, default: bool = False) -> bool:
        """Option that is true or false."""
        text = self.options.get(key, "true" if default else "false").lower()
        if text not in ("true", "false"):
            raise UserError(f"{self.text}: {key}={self.options[key]} is neither true nor false")
        return text == "true"

    def made_by(self, library: str, data_set: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """The first graph of a data set of another library, and what it is read with, its classes included.

        Raises:
            UserError: the library cannot make it.
        """
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                made = data_set()
                graph = made[0]
        except Exception as error:  # whatever a download or an unpacking of theirs ends with
            raise UserError(
                f"{self.text}: {library} could not load it ({type(error).__name__}: {one_line(error)}); "
                "put its raw files under root=FOLDER, or use npz:FILE"
            ) from error
        return graph, {"num_classes": int(getattr(made, "num_classes", 0) or 0), **self.of_library()}

    def of_library(self) -> dict[str, Any]:
        """What a graph of another library is read with, for `Graph.assembled`."""
        return {
            "source": self.text,
            "features": self.options.get("features", ""),
            "directed": self.flag("directed"),
            "edge_weights": self.options.get("edge_weights", "use"),
            "split_seed": self.seed("split_seed"),
        }

    def folder(self, key: str) -> Path | None:
        """Option that names a folder."""
        return self._path(self.options[key]) if key in self.options else None

    def file(self) -> Path:
        """The target, which names a file."""
        return self._path(self.target)

    def _path(self, text: str) -> Path:
        try:
            path = Path(text).expanduser()
            path.exists()  # a name that no file can have is refused here, once
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(f"{self.kind}: '{text[:60]}' names no file ({error.args[-1]})") from error
        return path

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
    """Take a SOURCE string apart; UserError with the nearest kind for an unknown one."""
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


def load(source: str, say: Callable[[str], None] = _silent, *, later: ScalingKind | None = None) -> Graph:
    """The graph that `source` names; UserError for anything wrong with it.

    Args:
        say: is told what takes long.
        later: features are left unscaled where this is what the source asks for.
    """
    spec = dataclasses.replace(parse(source), say=say)
    options, asked = taken_out(spec.text, spec.kind, spec.target, spec.options)
    module = importlib.import_module(f"partition.sources.{spec.kind}")
    return asked.of(cast(Loader, module.load)(dataclasses.replace(spec, options=options)), later)
