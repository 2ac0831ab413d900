"""Who chooses what is exchanged, the user or the run: options that contradict each other in that.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from bnsgcn.fitting import at_least
from partition.errors import UserError

FIXED_OPTIONS = (
    *("sampling_rate", "sampler", "draw_per_layer", "halo_cache", "pipeline", "first_epoch"),
    *("smooth_features", "smooth_gradients", "wire_dtype", "gradient_wire_dtype"),
)
"""Those that --policy auto chooses in place of the user."""
AUTO_OPTIONS = ("aim", "tolerance", "max_bytes", "replay")
"""Those that say how it does."""


class PolicyOptions:
    """What follows from those options of a TrainConfig that say who chooses."""

    policy: str
    aim: str
    tolerance: float
    max_bytes: float
    eval_every: int

    @property
    def saves_bytes(self) -> bool:
        """Whether --policy auto goes by bytes, not by time."""
        return self.policy == "auto" and (self.aim == "bytes" or self.max_bytes > 0)

    def check_policy(self) -> None:
        """Raise the UserError of options that contradict each other, or cannot be."""
        fixed, auto = self._given(FIXED_OPTIONS), self._given(AUTO_OPTIONS)
        if self.policy == "fixed" and auto:
            raise UserError(f"--{auto[0]} is for --policy auto, --policy is fixed; leave one out")
        if self.policy == "auto" and fixed:
            raise UserError(
                f"--policy auto chooses what is exchanged, --{fixed[0]} does so too; leave one out"
            )
        at_least("max-bytes", self.max_bytes, 0)
        if not self.tolerance > 0:
            raise UserError(
                f"--tolerance is {self.tolerance:g}, must be above 0; exact training is --policy fixed"
            )
        if self.saves_bytes and self.eval_every == 0:
            raise UserError("--tolerance is measured by validation scores, --eval-every is 0; try 10")

    def _given(self, names: Iterable[str]) -> list[str]:
        """Those that are not left at their default, as the command line has them."""
        changed = (name for name in names if getattr(self, name) != getattr(type(self), name))
        return [f"{name.replace('_', '-')} {getattr(self, name)}" for name in changed]
