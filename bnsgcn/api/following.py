"""What the caller of the API wants to follow a run: trackers by name, objects, functions that make them."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from bnsgcn.own import reference_to
from bnsgcn.record.tracker import Tracker
from partition.errors import UserError

Track: TypeAlias = str | Tracker | Callable[..., Any]
"""A name or several joined by commas, a tracker, or a function (run_dir, config) -> tracker."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Following:
    """The three kinds apart."""

    names: str | None
    """As --track has them."""
    makers: Sequence[Mapping[str, Any]]
    """Where the functions are, for the worker that calls them."""
    told: Sequence[Tracker]
    """Objects of this process."""


def following(track: Track | Sequence[Track] | None) -> Following:
    """Sort out what `bnsgcn.train` was given as `track`.

    Raises:
        UserError: It is none of what it can be, or a function that no worker can import.
    """
    given: Sequence[Any] = track if isinstance(track, list | tuple) else [] if track is None else [track]
    names, makers, told = [], [], []
    for each in given:
        if isinstance(each, str):
            names.append(each)
        elif not isinstance(each, type) and hasattr(each, "on_epoch"):
            told.append(each)
        elif callable(each):
            makers.append(reference_to("track", each).to_json())
        else:
            raise UserError(
                f"track is {reprlib.repr(each)}, must be a name, a bnsgcn.Tracker, or a function that "
                f"makes one"
            )
    return Following(names=",".join(names) or None, makers=makers, told=told)
