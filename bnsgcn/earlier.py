"""Options of earlier versions: what stands for them now, for who types them and for runs made with them.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EARLIER = {
    "smooth_decay": "it is --smooth-window now, in epochs: 1 / (1 - decay), so --smooth-window 20 for 0.95",
}
"""By field; in words that can follow the option's name."""


def of_now(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run's configuration, with this version's names.

    A decay is the window that averages alike where every row arrives in every epoch. What had no effect has
    this version's default, so that the run can be resumed without a word about it.
    """
    found = dict(values)
    if "smooth_decay" not in found:
        return found
    decay = found.pop("smooth_decay")
    smooths = found.get("smooth_features") or found.get("smooth_gradients")
    if smooths and isinstance(decay, int | float) and 0 <= decay < 1:
        found.setdefault("smooth_window", round(1 / (1 - decay), 6))
    if found.get("sampling_rate") == 1:
        found.pop("sampler", None)
    return found
