"""What a run has of the user's own: functions that every worker finds by their names, never by unpickling.

    model(features, classes, config) -> torch.nn.Module      optimizer(parameters) -> an optimiser
    schedule(epoch) -> factor on the learning rate            loss(logits, labels, count) -> this rank's share
    metric(logits, labels) -> float

A worker is a fresh interpreter. A function of a module is imported there; one of a script is found by running
the script until it comes to `bnsgcn.train`, which neither a worker nor who else opens the run calls again.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from partition.errors import UserError, one_line

KINDS = ("model", "optimizer", "schedule", "loss", "metric")
_SCRIPT = "__bnsgcn_main__"
"""The script's name in a worker: what it guards by `__name__ == "__main__"` does not run there."""

_READING = contextvars.ContextVar("reading a script", default=False)

References: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Where the functions of a run are, by their kind, ready for JSON."""
NONE_OWN: References = {}


class ScriptReached(BaseException):
    """The user's script, read by a worker, has come to the call that started the worker."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """Where a function is, ready for JSON."""

    module: str
    name: str
    script: str = ""
    """The file of the script that defines it, where no module does."""
    arguments: tuple[str, ...] = ()
    """What the script was called with."""
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of a functools.partial."""
    paths: tuple[str, ...] = ()
    """Where to look for modules, after the places that a worker knows itself."""

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.keywords.items())
        return f"{self.script or self.module}:{self.name}{f'({given})' if given else ''}"

    def to_json(self) -> dict[str, Any]:
        """The inverse of `Reference(**values)`."""
        return dataclasses.asdict(self) | {"paths": list(self.paths), "arguments": list(self.arguments)}


def reference_to(kind: str, function: Callable[..., Any]) -> Reference:
    """How a worker finds `function`.

    Raises:
        UserError: It cannot: it is a lambda, made inside a function, in a notebook, or no function at all.
    """
    keywords: dict[str, Any] = {}
    if isinstance(function, functools.partial):
        function, keywords = _taken_apart(kind, function)
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    way_out = "put it into a file and import it from there"
    if not callable(function) or not isinstance(module, str) or not name:
        kept = f"{kind} is a {type(function).__name__}, must be a function that every worker can import"
        raise UserError(f"{kept}; {way_out}" if callable(function) else kept)
    if "<lambda>" in name:
        raise UserError(f"{kind} is a lambda, which no worker can import; {way_out}, as a def with a name")
    if "<locals>" in name:
        outer, _, inner = name.rpartition(".<locals>.")
        raise UserError(f"{kind} {inner} is made inside {outer}, where no worker can import it; {way_out}")
    script = "" if module != "__main__" else str(getattr(sys.modules["__main__"], "__file__", None) or "")
    if module == "__main__" and not Path(script).is_file():
        raise UserError(
            f"{kind} {name} is defined in a notebook or at the prompt, where no worker can import it; "
            f"{way_out} (%%writefile my_{kind}.py as the first line of the cell makes one)"
        )
    return Reference(
        module=module,
        name=name,
        script=str(Path(script).resolve()) if script else "",
        arguments=tuple(sys.argv[1:]) if script else (),
        keywords=keywords,
        paths=tuple(str(Path(path).resolve()) for path in sys.path if not path.startswith(sys.prefix)),
    )


def _taken_apart(kind: str, made: functools.partial[Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function and the keywords of a partial."""
    try:
        plain = not made.args and json.loads(json.dumps(made.keywords)) == made.keywords
    except (TypeError, ValueError):
        plain = False
    if not plain:
        raise UserError(
            f"{kind} is a functools.partial of more than keywords with plain values; "
            f"write a function instead, in a file that can be imported"
        )
    return made.func, made.keywords


def resolve(kind: str, reference: Reference) -> Callable[..., Any]:
    """The function that `reference_to` was given, here.

    Raises:
        UserError: It cannot be imported.
    """
    sys.path += [path for path in reference.paths if path not in sys.path]
    try:
        found: Any = _script(reference) if reference.script else _module(reference.module)
        for name in reference.name.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise UserError(
            f"{kind} {reference} cannot be imported in a worker ({one_line(error)}); put it into a file "
            f"beside the script and import it from there, above the first bnsgcn.train"
        ) from error
    return functools.partial(found, **reference.keywords) if reference.keywords else found


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _script(reference: Reference) -> ModuleType:
    """The script, run until it calls the API; in the process that runs it anyhow, itself."""
    path, main = reference.script, sys.modules["__main__"]
    if getattr(main, "__file__", None) and Path(str(main.__file__)).resolve() == Path(path):
        return main
    if _SCRIPT in sys.modules:
        return sys.modules[_SCRIPT]
    spec = importlib.util.spec_from_file_location(_SCRIPT, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[_SCRIPT] = importlib.util.module_from_spec(spec)
    before, sys.argv = sys.argv, [path, *reference.arguments]
    reading = _READING.set(True)
    try:
        with contextlib.suppress(ScriptReached), contextlib.redirect_stdout(io.StringIO()):
            spec.loader.exec_module(module)
    finally:
        _READING.reset(reading)
        sys.argv = before
    return module


def reading_script() -> bool:
    """Whether a script is being read for a function in it."""
    return _READING.get()
