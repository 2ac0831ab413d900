"""What was decided, from which epoch on, and why; as a line of metrics.jsonl and a checkpoint have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from bnsgcn.auto.allotment import Allotment
from bnsgcn.auto.seen import Seen
from bnsgcn.exchange.settings import Setting

Stage = Literal["measure", "hold", "coarse", "trial", "fine"]
"""measure: what things cost is being measured.   hold: as near to exact as hides.   coarse: few bytes, while
the weights move.   trial: fine for a while, to see whether that helps.   fine: the last epochs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision; its `memory` is all that later ones need to know of earlier ones."""

    epoch: int
    """The first that it holds in."""
    stage: Stage
    reason: str
    setting: Setting
    expected_bytes: float | None = None
    """Payload of an epoch, all ranks, both directions."""
    expected_error: float | None = None
    """Root of the sum over layers of the relative square error of their aggregates."""
    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
    memory: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dump."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"setting": self.setting.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], parts: int) -> Decision:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: this is no decision, or one of another number of parts.
        """
        setting = Setting.from_json(values["setting"], parts)
        return cls(**{**values, "setting": setting})


def taken(seen: Seen, stage: Stage, why: str, found: Allotment, memory: Mapping[str, Any]) -> Decision:
    """The decision for `found`, from the epoch on that is next."""
    return Decision(
        epoch=seen.epoch,
        stage=stage,
        reason=why,
        setting=found.setting,
        expected_bytes=found.bytes,
        expected_error=found.error,
        measured=seen.measured,
        memory=memory,
    )
