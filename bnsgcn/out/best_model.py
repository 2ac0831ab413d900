"""The model of a run's best checkpoint, in one process and without the workers that trained it."""

from __future__ import annotations

import dataclasses
import os

import torch

from bnsgcn.config import TrainConfig
from bnsgcn.nn.models import GNN
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.run import model_of
from bnsgcn.train.checkpoint import SHARED_NAME
from bnsgcn.train.seal import Seal, best_folder
from bnsgcn.train.state_file import State, read_state, sha256_of
from partition.errors import UserError
from partition.store import Manifest, read_manifest


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BestModel:
    """A trained model and what it was made from."""

    model: torch.nn.Module
    """In evaluation mode, in the run's number format."""
    config: TrainConfig
    manifest: Manifest
    """Of the parts that it was trained on."""
    epoch: int
    """Epochs trained until then."""

    @property
    def gnn(self) -> GNN:
        """The model as one of ours; UserError where it is the user's own."""
        if not isinstance(self.model, GNN):
            raise UserError(
                f"the run's model is a {type(self.model).__name__} of your own, whose layers only you know; "
                f"use --to FILE.safetensors for its weights, or run.model from Python"
            )
        return self.model


def best_model(run_dir: str | os.PathLike[str]) -> BestModel:
    """The model of the best checkpoint of a run.

    Raises:
        UserError: there is no run, no checkpoint, a damaged one, or one whose weights do not fit the options.
    """
    run = RunFolder(run_dir)
    facts = run.open()
    manifest = read_manifest(facts.parts_dir)
    epoch, state = _best_state(run)
    model = model_of(manifest, facts.config, facts.own)
    model.to(torch.float64 if facts.config.dtype == "float64" else torch.float32)
    check_shapes(model, state, f"the best checkpoint of {run.path}")
    model.load_state_dict(state)
    return BestModel(model=model.eval(), config=facts.config, manifest=manifest, epoch=epoch)


def _best_state(run: RunFolder) -> tuple[int, State]:
    """Epochs and weights of the best checkpoint, verified."""
    folder = best_folder(run.path / "checkpoints")
    if folder is None:
        raise UserError(f"{run.path} has no best checkpoint; train first, with validation nodes")
    try:
        seal = Seal.read(folder)
        with (folder / SHARED_NAME).open("rb") as file:
            if sha256_of(file) != seal.files[SHARED_NAME]:
                raise UserError(f"{SHARED_NAME} has changed on disk")
            return seal.epoch, read_state(file)["model"]
    except (OSError, UserError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"checkpoint {folder} is damaged ({said}); train again or go on with --resume"
        ) from error


def check_shapes(model: torch.nn.Module, state: State, where: str) -> None:
    """UserError for the first weight that `model` and `state` do not have in the same shape."""
    mine = {name: list(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: list(value.shape) for name, value in state.items()}
    for name in [*mine, *theirs]:
        if mine.get(name) != theirs.get(name):
            raise UserError(
                f"{where} has {name} {theirs.get(name, 'missing')}, its options and parts make "
                f"{mine.get(name, 'none')}; use the config.json and the parts that it was trained with"
            )
