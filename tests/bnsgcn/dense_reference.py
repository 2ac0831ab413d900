"""Training with the adjacency as a dense matrix, in one process and plain torch: what law 1 holds us against.

Shares with the runtime the weights at the start and the function that draws dropout masks, nothing else: no
blocks, no kernels, no custom autograd, no pruning, no order of nodes but the graph's own.

    N nodes of the view   F features   C classes   K heads   d features of a head
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bnsgcn.config import TrainConfig
from bnsgcn.kernels import random_bits
from partition.graph import TRAIN, VAL, Graph

SECOND_MASK = 1 << 20
"""Layer number offset of the mask of a precomputed aggregate, beside that of the node's own features."""


class DenseRun:
    """A training run over one dense adjacency; nodes are in the graph's order."""

    def __init__(self, graph: Graph, config: TrainConfig, weights: dict[str, Tensor]) -> None:
        """`weights`: the state of the model at the start, by name; parameters and buffers."""
        self._graph, self._config = graph, config
        buffers = {name for name in weights if "running" in name}
        self.buffers = {name: weights[name].double().clone() for name in buffers}
        self.weights = {
            name: value.double().clone().requires_grad_()
            for name, value in weights.items()
            if name not in buffers
        }
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self._optimizer = kind(self.weights.values(), lr=config.lr, weight_decay=config.weight_decay)
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimizer, mode="max", factor=0.5, patience=config.lr_patience - 1, threshold=0.0
        )
        self._taken: list[dict[str, Tensor]] = []
        self.epoch = 0

    def step(self) -> tuple[float, Tensor, dict[str, Tensor]]:
        """One epoch: (loss, training logits [N, C] with NaN outside the view, gradients by name)."""
        self._optimizer.zero_grad()
        train = torch.from_numpy(self._graph.split == TRAIN)
        view = train if self._config.inductive else torch.ones_like(train)
        logits = self._forward(view, training=True)
        chosen = logits[train[view]]
        labels = torch.from_numpy(self._graph.labels)[train]
        weights = balanced(labels, logits.shape[1]) if self._config.class_weights else None
        if labels.dim() == 1:
            smoothing = self._config.label_smoothing
            loss = functional.cross_entropy(chosen, labels, weights, label_smoothing=smoothing)
        else:
            loss = functional.binary_cross_entropy_with_logits(chosen, labels.double(), pos_weight=weights)
        loss.backward()
        if self._config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self._config.clip_norm)
        self._step()
        every = torch.full((view.numel(), logits.shape[1]), torch.nan, dtype=torch.float64)
        every[view] = logits.detach()
        gradients = {name: weight.grad.clone() for name, weight in self.weights.items()}
        return loss.item(), every, gradients

    def _step(self) -> None:
        """Adam's step with the epoch's rate, then what a plateau makes of the validation score."""
        config, warmup, group = self._config, self._config.warmup, self._optimizer.param_groups[0]
        if config.lr_schedule != "plateau":
            cosine = config.lr_schedule == "cosine" and self.epoch >= warmup
            turn = (self.epoch - warmup) / (config.epochs - warmup) if cosine else 0.0
            group["lr"] = (
                config.lr * min(1.0, (self.epoch + 1) / (warmup + 1)) * np.cos(np.pi * turn / 2) ** 2
            )
        self._optimizer.step()
        self._taken.append({name: weight.detach().clone() for name, weight in self.weights.items()})
        self.epoch += 1
        if config.lr_schedule == "plateau":
            rows, labels = np.flatnonzero(self._graph.split == VAL), torch.from_numpy(self._graph.labels)
            self._plateau.step((self.logits()[rows].argmax(1) == labels[rows]).double().mean().item())

    def logits(self) -> Tensor:
        """Logits [N, C] of all nodes over all edges, without dropout, with --ema by averages."""
        trained, every = self.weights, torch.ones(self._graph.num_nodes, dtype=torch.bool)
        if self._config.ema:
            shares = self._config.ema ** torch.arange(self.epoch).flip(0).double()
            self.weights = {
                name: torch.stack([taken[name] for taken in self._taken], -1) @ (shares / shares.sum())
                for name in trained
            }
        try:
            with torch.no_grad():
                return self._forward(every, training=False)
        finally:
            self.weights = trained

    def _forward(self, view: Tensor, *, training: bool) -> Tensor:
        config, ids = self._config, view.nonzero().flatten()
        adjacency = dense_adjacency(self._graph, weighted=config.model != "gat")[view][:, view]
        if config.self_loops:
            adjacency += torch.eye(ids.numel(), dtype=torch.float64)
        h = torch.from_numpy(np.asarray(self._graph.features)).double()[view]
        if config.input_linear:
            h = self._activated(self._affine(self._dropped(h, ids, 2 * SECOND_MASK, training), "enter"))
        outputs: list[Tensor] = []
        for layer in range(config.layers):
            before = self._dropped(h, ids, layer, training)
            if layer >= config.layers - config.linear_layers:
                place = f"linears.{layer - config.layers + config.linear_layers}"
                before = self._joined(outputs, ids, training) if outputs else before
                h, outputs = self._affine(before, place), []
            elif layer == 0 and config.precompute:
                h = self._precomputed(adjacency, h, ids, training) + self._skipped(before, 0)
            else:
                h = self._conv(adjacency, before, layer) + self._skipped(before, layer)
            if layer < config.layers - 1:
                h = self._activated(self._normed(h, layer, training))
            if layer < config.layers - config.linear_layers:
                outputs.append(h)
        return h

    def _joined(self, outputs: list[Tensor], ids: Tensor, training: bool) -> Tensor:
        """What a linear layer reads: dropout belongs to the layer that an output goes to."""
        rows = [self._dropped(h, ids, layer, training) for layer, h in enumerate(outputs, start=1)]
        how = self._config.jumping_knowledge
        return rows[-1] if how is None else torch.cat(rows, 1) if how == "cat" else torch.stack(rows).amax(0)

    def _skipped(self, before: Tensor, layer: int) -> Tensor | float:
        if not self._config.residual:
            return 0.0
        name = f"skips.{layer}.weight"
        return before @ self.weights[name].T if name in self.weights else before

    def _activated(self, h: Tensor) -> Tensor:
        kinds = {"leaky-relu": functional.leaky_relu, "elu": functional.elu, "gelu": functional.gelu}
        return kinds.get(self._config.activation, functional.relu)(h)

    def _dropped(self, h: Tensor, ids: Tensor, layer: int, training: bool) -> Tensor:
        p = self._config.dropout
        of_features = layer in (2 * SECOND_MASK, SECOND_MASK) or (
            layer == 0 and not self._config.input_linear
        )
        if of_features and self._config.input_dropout is not None:
            p = self._config.input_dropout
        if not training or p == 0:
            return h
        key = random_bits.key(self._config.seed, self.epoch, layer, random_bits.Stream.DROPOUT)
        mask = random_bits.keep_mask(key, ids, h.shape[1], p)
        return h * mask * (random_bits.LEVELS / random_bits.keep_levels(p))

    def _affine(self, h: Tensor, place: str) -> Tensor:
        out = h @ self.weights[f"{place}.weight"].T
        return out + self.weights[f"{place}.bias"] if f"{place}.bias" in self.weights else out

    def _normed(self, h: Tensor, layer: int, training: bool) -> Tensor:
        place = f"between.{layer}"
        if self._config.norm == "none":
            return h
        if self._config.norm == "layer":
            weight, bias = self.weights[f"{place}.weight"], self.weights[f"{place}.bias"]
            return functional.layer_norm(h, h.shape[1:], weight, bias)
        weight, bias = self.weights[f"{place}.batch.weight"], self.weights[f"{place}.batch.bias"]
        running = self.buffers[f"{place}.batch.running_mean"], self.buffers[f"{place}.batch.running_var"]
        return functional.batch_norm(h, *running, weight, bias, training=training, momentum=0.1)

    def _aggregated(self, adjacency: Tensor, h: Tensor) -> Tensor:
        rows = positive(adjacency.sum(1, keepdim=True))
        if self._config.model == "sage":
            return (adjacency / rows) @ h
        columns = positive(adjacency.sum(0, keepdim=True))
        return (adjacency / (rows.sqrt() * columns.sqrt())) @ h

    def _conv(self, adjacency: Tensor, h: Tensor, layer: int) -> Tensor:
        place = f"convs.{layer}"
        if self._config.model == "gat":
            return self._attention(adjacency, h, layer)
        if self._config.model == "gcn":
            return self._affine(self._aggregated(adjacency, h), place)
        return self._sage(h, self._aggregated(adjacency, h), place)

    def _sage(self, own: Tensor, mean: Tensor, place: str) -> Tensor:
        out = own @ self.weights[f"{place}.weight_self"].T + mean @ self.weights[f"{place}.weight_neigh"].T
        return out + self.weights[f"{place}.bias"] if f"{place}.bias" in self.weights else out

    def _precomputed(self, adjacency: Tensor, h: Tensor, ids: Tensor, training: bool) -> Tensor:
        """The aggregate of the input is fixed, so dropout comes after it, with a mask of its own for SAGE."""
        aggregate = self._aggregated(adjacency, h)
        if self._config.model == "gcn":
            return self._affine(self._dropped(aggregate, ids, 0, training), "convs.0")
        own = self._dropped(h, ids, 0, training)
        return self._sage(own, self._dropped(aggregate, ids, SECOND_MASK, training), "convs.0")

    def _attention(self, adjacency: Tensor, h: Tensor, layer: int) -> Tensor:
        place, heads = f"convs.{layer}", self._config.heads
        z = (h @ self.weights[f"{place}.weight"].T).view(h.shape[0], heads, -1)
        target = (z * self.weights[f"{place}.score_dst"]).sum(-1)
        source = (z * self.weights[f"{place}.score_src"]).sum(-1)
        scores = functional.leaky_relu(target[:, None] + source[None], 0.2)  # [N targets, N sources, K]
        arcs = (adjacency > 0).double()[..., None]
        largest = scores.detach().masked_fill(arcs == 0, -torch.inf).amax(1, keepdim=True)
        weight = arcs * torch.exp(arcs * (scores - torch.nan_to_num(largest, neginf=0.0)))
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-300)  # a row without neighbours is 0
        out = torch.einsum("tsk,skd->tkd", weight, z)
        last = layer == self._config.layers - 1
        out = out.mean(1) if last else out.flatten(1)
        return out + self.weights[f"{place}.bias"] if f"{place}.bias" in self.weights else out


def balanced(labels: Tensor, classes: int) -> Tensor:
    """Balanced class weights [C] by scikit-learn, or the torch documentation's ratio for several labels."""
    if labels.dim() == 2:
        have = labels.double().sum(0)
        return (labels.shape[0] - have) / have
    from sklearn.utils.class_weight import compute_class_weight

    weights, present = torch.ones(classes, dtype=torch.float64), np.unique(labels)
    weights[present] = torch.from_numpy(compute_class_weight("balanced", classes=present, y=labels.numpy()))
    return weights


def positive(degree: Tensor) -> Tensor:
    """1 for 0."""
    return torch.where(degree > 0, degree, torch.ones_like(degree))


def dense_adjacency(graph: Graph, *, weighted: bool = True) -> Tensor:
    """A [N, N] with A[i, j] = 1, or the edge weight, for the arc j -> i."""
    adjacency = np.zeros((graph.num_nodes, graph.num_nodes))
    adjacency[np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr)), graph.indices] = (
        graph.weights if weighted and graph.weights is not None else 1
    )
    return torch.from_numpy(adjacency)
