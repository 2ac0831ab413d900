"""Payload bytes that a rank sends; bodies of messages alone."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class SentBytes:
    """Payload bytes that this rank has sent since the last `reset`."""

    features: int = 0
    gradients: int = 0

    def reset(self) -> None:
        """Start counting anew."""
        self.features = self.gradients = 0
