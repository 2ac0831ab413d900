"""Before anything is trained, all ranks compare what they were given: code, parts, options, model.

Ranks that differ would go on without a word: replicas drift apart, or rows land in the wrong slots. What
every rank may do in its own way is left out: threads, timeout, and which kernels `auto` finds on a machine
(they round differently, but agree about draws, masks and what travels).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import partition
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.train.class_weights import weights_digest
from partition.errors import UserError
from partition.store import Manifest, folder_digest

MAY_DIFFER = frozenset({"threads", "timeout_s", "device"})
"""Options that every rank may have for itself; of the device, its kind is compared."""
WAYS_OUT = {
    "code": "install the same version on every machine",
    "torch": "install the same version on every machine",
    "parts": "give every machine the same folder of parts",
    "device": "give all workers the same --device",
    "class weights": "give every machine the same file",
    "model": "build the same model on every rank",
}
SHOWN = 12
"""Characters of a digest that a message shows."""


def agree(
    world: World, config: TrainConfig, manifest: Manifest, model: torch.nn.Module | None = None
) -> None:
    """See to it that all ranks were given the same, and that there is one rank a part. Collective.

    Raises:
        UserError: on every rank the same line, with the rank, the field and both values; or a file of class
            weights cannot be read.
    """
    facts = {"code": code_digest()[:SHOWN], "torch": torch.__version__.partition("+")[0]}
    facts |= {"parts": manifest.digest[:SHOWN], "device": world.device.type}
    options = config.to_json().items()
    facts |= {f"--{name.replace('_', '-')}": str(value) for name, value in options if name not in MAY_DIFFER}
    if digest := weights_digest(config, manifest.num_classes):
        facts["class weights"] = digest
    if model is not None:
        facts["model"] = shape_digest(model)[:SHOWN]
    compare(world, facts)
    if manifest.parts != world.size:
        raise UserError(
            f"{manifest.parts} parts but {world.size} workers; start {manifest.parts} workers "
            f"or cut the graph anew: bnsgcn repartition DIR --parts {world.size} --out DIR2"
        )


def compare(world: World, facts: Mapping[str, str]) -> None:
    """UserError on every rank when `facts` are not the same on all. Collective."""
    texts = world.all_gather_text(json.dumps(facts))
    if len(set(texts)) > 1:
        with contextlib.suppress(RuntimeError):  # a rank that knows enough may have left
            world.barrier()
        raise UserError(difference([json.loads(text) for text in texts]))


def difference(ranks: Sequence[Mapping[str, str]]) -> str:
    """One line about the first field in which the ranks' facts differ, and the names of all others."""
    names = dict.fromkeys(name for facts in ranks for name in facts)
    differing = [name for name in names if len({facts.get(name) for facts in ranks}) > 1]
    first, others = differing[0], differing[1:]
    values = [facts.get(first, "none") for facts in ranks]
    usual = Counter(values).most_common(1)[0][0]
    odd = next(rank for rank, value in enumerate(values) if value != usual)
    also = f" (and differ in {', '.join(others)})" if others else ""
    return (
        f"rank {odd} has {first} {values[odd]}, rank {values.index(usual)} has {usual}{also}; "
        f"{WAYS_OUT.get(first, 'start all workers with the same options')}"
    )


@functools.cache
def code_digest() -> str:
    """SHA-256 of the sources of the runtime and of what reads parts."""
    return folder_digest(Path(__file__).parents[1], Path(partition.__path__[0]))


def shape_digest(model: torch.nn.Module) -> str:
    """SHA-256 of the names, shapes and number formats of a model's parameters and buffers."""
    lines = [f"{name} {tuple(value.shape)} {value.dtype}" for name, value in model.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
