"""What the options of every kind of source ask of a graph once it is read: another split, scaled features.

split=random      60/20/20 of the labelled nodes by split_seed=N, in place of the split that there is
split=planetoid   20 training nodes a class, then 500 and 1,000 for validation and test, by split_seed=N
features=standardise, features=row      see partition/scaling.py; joined with other words by +, as in
                                        features=row+sparse
"""

from __future__ import annotations

import dataclasses

import numpy as np

from partition.errors import UserError
from partition.graph import Graph
from partition.labels import NONE, checked_seed, planetoid_split, seeded_split
from partition.scaling import KINDS, ScalingKind

SPLITS = ("random", "planetoid")
STANDARDISED = {"dgl": "yelp", "pyg": "yelp"}
"""Data sets that are standardised unless they are told not to be, as the papers do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is left to do to a graph when its source is read."""

    text: str
    scaling: ScalingKind | None
    split: str
    seed: int

    def of(self, graph: Graph, later: ScalingKind | None) -> Graph:
        """The graph with that split, and with features scaled as asked, unless that is what comes `later`."""
        if self.split:
            graph = self._split_anew(graph)
        return graph if self.scaling in (None, later) else graph.scaled(self.scaling)

    def _split_anew(self, graph: Graph) -> Graph:
        single = graph.task == "single"
        labelled = graph.labels >= 0 if single else graph.split != NONE
        if self.split == "random":
            codes, note = seeded_split(labelled, self.seed)
        elif single:
            codes, note = planetoid_split(self.text, graph.labels, self.seed)
        else:
            raise UserError(f"{self.text}: split=planetoid wants one label a node; use split=random")
        note = note.replace("no split in the source", f"split={self.split}")
        kept = tuple(said for said in graph.notes if "no split in the source" not in said)
        return dataclasses.replace(graph, split=np.asarray(codes), notes=(*kept, note))


def taken_out(text: str, kind: str, target: str, options: dict[str, str]) -> tuple[dict[str, str], Asked]:
    """The options that are left for the source itself, and what the others ask.

    Raises:
        UserError: words of `features` contradict each other, or the kind of source has no numbered splits.
    """
    left = dict(options)
    words = left.pop("features", "").split("+")
    scalings = [word for word in words if word in KINDS]
    others = [word for word in words if word and word not in KINDS]
    if len(scalings) > 1 or len(others) > 1:
        raise UserError(
            f"{text}: features={'+'.join(words)} asks for two of a kind; join one way to make or store them "
            f"and one to scale them, as in row+sparse"
        )
    if others:
        left["features"] = others[0]
    standard = left.get("standardise", "").lower()
    if not scalings and (standard == "true" or (not standard and STANDARDISED.get(kind) == target.lower())):
        scalings = ["standardise"]
    split = left.get("split", "")
    if split in SPLITS:
        del left["split"]
    elif split and (kind != "npz" or not split.isdecimal()):
        raise UserError(
            f"{text}: split={split} is unknown; use split=random or split=planetoid"
            + (", or the number of one of the file's split_masks" if kind == "npz" else "")
        )
    chosen = split if split in SPLITS else ""
    seed = left.pop("split_seed", "0") if chosen else "0"
    if not seed.isdecimal():
        raise UserError(f"{text}: split_seed={seed} is not a whole number of 0 or more")
    scaling = scalings[0] if scalings else None
    return left, Asked(
        text=text, scaling=scaling, split=chosen, seed=checked_seed(f"{text}: split_seed", int(seed))
    )
