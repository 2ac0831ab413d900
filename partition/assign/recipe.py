"""How nodes are to be assigned: METHOD strings, their options, checked before the graph is read.

metis                     METIS k-way, several starts, refined         (the default)
kahypar                   Mt-KaHyPar, by rows sent, refined         (pip install 'bnsgcn[kahypar]')
random                    balanced, seeded: the control
streaming[:ldg|:fennel]   one pass over the graph, for graphs METIS cannot hold
coarse                    METIS on a coarsened graph, in the memory of streaming
file:ASSIGNMENT.npy       one part index per node, made elsewhere
source                    the parts that the source came in (a folder of DGL parts)
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable
from typing import Literal

from partition.errors import UserError, nearest
from partition.labels import LARGEST_SEED
from partition.refine import Aims

Objective = Literal["volume", "cut"]
Progress = Callable[[str], None]

METHODS = ("metis", "kahypar", "random", "streaming", "coarse", "file", "source")
FOR_HOSTS = ("metis", "kahypar")
OBJECTIVES = ("volume", "cut")
SCORES = ("ldg", "fennel")
ORDERS = ("pieces", "rcm", "none")
MOST_PARTS, MOST_STARTS = 1 << 14, 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How nodes are assigned to parts."""

    parts: int
    """Parts to make."""
    method: str = "metis"
    """metis, kahypar, random, streaming[:ldg|:fennel], coarse, source or file:ASSIGNMENT.npy."""
    objective: Objective = "volume"
    """What METIS lowers: volume (rows sent per layer; refined afterwards) or cut (edges between parts)."""
    seed: int = 0
    """Seed of everything drawn."""
    refine: bool = True
    """Lower the largest part's rows sent and uneven work afterwards (not with --objective cut)."""
    starts: int = 0
    """METIS runs, each refined, of which the best is kept; 0 = 4, or 2 with 4 million arcs or more."""
    imbalance: float = 1.03
    """Weight of the largest part over the mean part that METIS may reach (its ufactor)."""
    node_work: float = 1.0
    """Work of a node, in arcs of a node of mean degree, when METIS balances work."""
    train_work: float = 0.0
    """The same for being a training node."""
    hosts: int = 1
    """Machines that the workers run on, as many on each: few rows are to go from one to another."""
    aims: Aims = dataclasses.field(default_factory=Aims)
    """What the refinement aims at."""
    order: str = "pieces"
    """Order of the nodes inside a part: see order.py."""

    def __post_init__(self) -> None:
        self._check_whole("parts", 1, MOST_PARTS)
        self._check_whole("seed", 0, LARGEST_SEED)
        self._check_whole("starts", 0, MOST_STARTS)
        if not 1.001 <= self.imbalance <= 2:
            raise UserError(f"--imbalance {self.imbalance} is out of range; use 1.001 to 2, for example 1.03")
        if not (0 <= self.node_work < math.inf and 0 <= self.train_work < math.inf):
            raise UserError(f"work of {self.node_work} and {self.train_work}: both must be 0 or more, finite")
        if self.objective not in OBJECTIVES:
            raise UserError(f"unknown objective '{self.objective}'; there are: {', '.join(OBJECTIVES)}")
        if self.order not in ORDERS:
            raise UserError(
                f"unknown order '{self.order}' inside a part{nearest(self.order, ORDERS)}; "
                f"there are: {', '.join(ORDERS)}"
            )
        self._check_method()
        self._check_hosts()

    def _check_whole(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or not least <= value <= most:
            raise UserError(f"--{name} {reprlib.repr(value)} is out of range; use {least} to {most}")

    def _check_method(self) -> None:
        if self.kind not in METHODS:
            raise UserError(
                f"unknown partition method '{self.method}'{nearest(self.kind, METHODS)}; "
                f"there are: {', '.join(METHODS)}"
            )
        if self.kind == "file" and not self.option:
            raise UserError("--method file: names no file; write file:ASSIGNMENT.npy")
        if self.kind == "streaming" and self.option not in ("", *SCORES):
            raise UserError(
                f"--method {self.method}: unknown score '{self.option}'{nearest(self.option, SCORES)}; "
                f"there are: {', '.join(SCORES)}"
            )
        if self.kind in ("metis", "kahypar", "random", "coarse", "source") and self.option:
            raise UserError(f"--method {self.method}: {self.kind} takes nothing after ':'")

    def _check_hosts(self) -> None:
        self._check_whole("hosts", 1, MOST_PARTS)
        if self.parts % self.hosts:
            fitting = [str(hosts) for hosts in range(1, self.parts + 1) if self.parts % hosts == 0]
            raise UserError(
                f"--hosts {self.hosts} does not divide --parts {self.parts}: every machine runs as many "
                f"workers; use --hosts {', '.join(fitting[:8])}, or other --parts"
            )
        if self.hosts > 1 and self.kind not in FOR_HOSTS:
            raise UserError(
                f"--hosts {self.hosts}: --method {self.method} does not cut for machines; "
                f"use {' or '.join(FOR_HOSTS)}"
            )

    @property
    def kind(self) -> str:
        """The method without what follows the colon."""
        return self.method.partition(":")[0]

    @property
    def option(self) -> str:
        """What follows the colon."""
        return self.method.partition(":")[2]
