"""How much each class counts in the loss: as a file says, or so that all classes count alike.

Of one label a node, w[c] weighs the nodes of class c, as torch's CrossEntropyLoss(weight); balanced is
scikit-learn's: nodes / (classes * nodes of the class). Of several labels a node, w[c] weighs the nodes that
have label c against those that have not, as BCEWithLogitsLoss(pos_weight); balanced is their ratio.

    C classes
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnsgcn.config import BALANCED, TrainConfig
from partition.errors import UserError, one_line

FloatArray = npt.NDArray[np.float64]
MOST_BYTES = 1 << 28
"""Of a text file with weights."""


def class_weights(
    config: TrainConfig, classes: int, nodes: int, counts: npt.NDArray[np.int64], *, single: bool
) -> FloatArray:
    """The weights [C] that the options ask for.

    Args:
        nodes: training nodes of all ranks.
        counts: int64 [C], those of them that have each class.
        single: whether a node has one label.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    if config.class_weights != BALANCED:
        given = given_weights(config, classes)
        assert given is not None
        if single and not given @ counts > 0:
            raise UserError(
                f"--class-weights {config.class_weights}: the classes of all {nodes} training nodes have "
                f"weight 0; give at least one of them a weight above 0"
            )
        return given
    # What is always or never there has no other side to be weighed against, or no part in the loss.
    told = counts > 0 if single else (counts > 0) & (counts < nodes)
    of_class = counts[told]
    weights = np.ones(classes)
    weights[told] = nodes / (told.sum() * of_class) if single else (nodes - of_class) / of_class
    return weights


def given_weights(config: TrainConfig, classes: int) -> FloatArray | None:
    """The numbers [C] of the file that the options name; None where they name none.

    Raises:
        UserError: it cannot be read, or does not hold one number a class, finite and at least 0.
    """
    if config.class_weights in (None, BALANCED):
        return None
    name = f"--class-weights {config.class_weights}"
    numbers = _numbers(name, Path(str(config.class_weights)).expanduser())
    if numbers.shape != (classes,):
        shape = "x".join(map(str, numbers.shape)) or "1"
        raise UserError(f"{name} has {shape} numbers, the graph has {classes} classes; give one a class")
    found = np.array(numbers, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if wrong.size:
        place = int(wrong[0])
        raise UserError(
            f"{name}: the weight of class {place} is {found[place]}, must be finite and at least 0"
        )
    return found


def weights_digest(config: TrainConfig, classes: int) -> str:
    """Identifies the numbers of the file that the options name; empty where they name none."""
    given = given_weights(config, classes)
    return "" if given is None else hashlib.sha256(given.tobytes()).hexdigest()[:12]


def _numbers(name: str, path: Path) -> npt.NDArray[Any]:
    """What is in a .npy file or, separated by blanks, commas or lines, in a text."""
    wanted = "name balanced, a .npy file or a text with one number a class"
    try:
        if path.suffix == ".npy":
            loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            if loaded.dtype.kind not in "fiu":
                raise UserError(f"{name} holds {loaded.dtype}, no real numbers; {wanted}")
            return loaded
        with path.open(encoding="utf-8") as file:
            words = file.read(MOST_BYTES).replace(",", " ").split()
        return np.array([float(word) for word in words])
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror or one_line(error)}); {wanted}") from None
    except Exception as error:  # NumPy refuses a broken header with any of half a dozen types
        raise UserError(f"{name} cannot be read ({one_line(error)}); {wanted}") from None
