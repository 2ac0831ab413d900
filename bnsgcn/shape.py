"""The shape of the options' model: widths of its layers, what is joined, what goes through a weight.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from bnsgcn.fitting import within
from partition.errors import UserError


class Shape:
    """What follows from those options of a TrainConfig that decide which weights a model has."""

    model: str
    layers: int
    hidden: int
    heads: int
    dropout: float
    linear_layers: int
    input_linear: bool
    input_dropout: float | None
    residual: bool
    jumping_knowledge: str | None
    precompute: bool

    @property
    def graph_layers(self) -> int:
        """Layers that are no linear ones."""
        return self.layers - self.linear_layers

    @property
    def joined(self) -> int:
        """How many outputs of graph layers the first linear layer reads side by side."""
        return self.graph_layers if self.jumping_knowledge == "cat" else 1

    @property
    def dropout_of_features(self) -> float:
        """Share of the input features that is zeroed."""
        return self.dropout if self.input_dropout is None else self.input_dropout

    def widths(self, num_features: int, num_classes: int) -> list[int]:
        """Columns of what every layer makes its result from, and of the logits: [layers + 1].

        What the first linear layer reads is `joined` times as wide.
        """
        first = self.hidden if self.input_linear else num_features
        return [first, *[self.hidden] * (self.layers - 1), num_classes]

    def linear_sizes(self, widths: Sequence[int]) -> list[tuple[int, int]]:
        """Columns in and out of the linear layers after the graph layers."""
        first = self.graph_layers
        return [
            (widths[layer] * (self.joined if layer == first else 1), widths[layer + 1])
            for layer in range(first, self.layers)
        ]

    def skips_through_weight(self, widths: Sequence[int], layer: int) -> bool:
        """Whether the residual of a graph layer has a weight: widths differ, or it is of the features."""
        of_features = layer == 0 and not self.input_linear
        return self.residual and (of_features or widths[layer] != widths[layer + 1])

    def check_shape(self) -> None:
        """UserError where the options contradict each other."""
        if self.input_dropout is not None:
            within("input-dropout", self.input_dropout, 0.0, 1.0, open_right=True)
        if not 0 <= self.linear_layers < self.layers:
            raise UserError(
                f"--linear-layers {self.linear_layers} of --layers {self.layers}: at least one graph layer "
                f"must stay; use at most {self.layers - 1}"
            )
        if self.jumping_knowledge and self.linear_layers == 0:
            raise UserError(
                f"--jumping-knowledge {self.jumping_knowledge} is read by a linear layer, --linear-layers is "
                f"0; use --linear-layers 1 with --layers {self.layers + 1}"
            )
        if self.input_linear and self.precompute:
            raise UserError(
                "--precompute needs an input that stays as it is, --input-linear learns it; leave one out"
            )
        if self.model == "gat" and self.hidden % self.heads:
            raise UserError(
                f"--hidden {self.hidden} is not a multiple of --heads {self.heads}; "
                f"use --hidden {-(-self.hidden // self.heads) * self.heads}"
            )
