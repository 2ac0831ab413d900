"""What was done to features to bring them to one scale, as a manifest remembers it for new nodes.

features=standardise   each column at mean 0 and variance 1 over the training nodes; constant ones at 0
features=row           each row divided by the sum of its absolute values; a row of zeros stays

Shapes:
    F features
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from partition.errors import UserError

ScalingKind = Literal["standardise", "row"]
KINDS: tuple[ScalingKind, ...] = ("standardise", "row")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """How features were scaled, ready to be done again to others."""

    kind: ScalingKind
    mean: tuple[float, ...] = ()
    """[F] of the training nodes; empty for rows."""
    deviation: tuple[float, ...] = ()
    """[F], above 0; 1 for a constant column."""

    def to_json(self) -> dict[str, Any]:
        """What a manifest holds."""
        found = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Scaling | None:
        """The inverse; None for an empty one."""
        if not stored:
            return None
        return cls(kind=stored["kind"], mean=tuple(stored["mean"]), deviation=tuple(stored["deviation"]))


def wrong_scaling(stored: Mapping[str, Any], columns: int) -> str:
    """What is wrong with a manifest's entry; empty when nothing is."""
    if not stored:
        return ""
    if stored.get("kind") not in KINDS or set(stored) != {"kind", "mean", "deviation"}:
        return f"feature_scaling is of kind {str(stored.get('kind'))[:40]}, neither {' nor '.join(KINDS)}"
    expected = columns if stored["kind"] == "standardise" else 0
    for name in ("mean", "deviation"):
        values = stored[name]
        if not isinstance(values, list) or len(values) != expected:
            return f"feature_scaling has no {expected} numbers as its {name}"
        if not all(isinstance(v, float) and math.isfinite(v) and (v > 0 or name == "mean") for v in values):
            return f"feature_scaling has a {name} that is no number, or none above 0"
    return ""


def check_same_scaling(trained: Scaling | None, other: Scaling | None, where: str) -> None:
    """UserError where the features of another graph were scaled otherwise than those of the training."""
    if trained == other:
        return
    asked, given = ("as they come" if found is None else found.kind for found in (trained, other))
    if asked == given:
        raise UserError(
            f"{where} was standardised by its own training nodes, the run by those that it was trained on; "
            "give the features as they are: the run's statistics are applied to them"
        )
    way_out = f"leave features={given} out" if trained is None else f"use features={asked}, or leave it out"
    raise UserError(f"{where} has features {given}, the run was trained on features {asked}; {way_out}")
