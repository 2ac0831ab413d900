"""What an epoch measured: on a rank, and over all ranks. Printing and evaluation are not in it."""

from __future__ import annotations

import torch

from bnsgcn.dist import World
from bnsgcn.record.rss import peak_rss_bytes
from bnsgcn.record.sent_bytes import SentBytes


def of_rank(epoch: int, loss: float, seconds: dict[str, float], sent: SentBytes) -> dict[str, float]:
    """One rank's epoch; `seconds` has the spans epoch, halo_wait, reduce and draw."""
    total, wait, reduce = (seconds.get(name, 0.0) for name in ("epoch", "halo_wait", "reduce"))
    return {
        "epoch": epoch,
        "loss": loss,
        "time/epoch_s": total,
        "time/compute_s": total - wait - reduce,
        "time/halo_wait_s": wait,
        "time/reduce_s": reduce,
        "time/draw_s": seconds.get("draw", 0.0),
        "comm/sent_bytes": sent.features + sent.gradients,
        "comm/sent_feature_bytes": sent.features,
        "comm/sent_gradient_bytes": sent.gradients,
        **_by_layer(sent),
        "memory/peak_rss_bytes": peak_rss_bytes(),
    }


def _by_layer(sent: SentBytes) -> dict[str, float]:
    """Bytes of each layer that exchanges, both directions."""
    found: dict[str, float] = {}
    for layer, bytes_sent in sent.by_layer().items():
        found[f"comm/layer_{layer}_feature_bytes"] = bytes_sent.features
        found[f"comm/layer_{layer}_gradient_bytes"] = bytes_sent.gradients
    return found


def of_all_ranks(world: World, own: dict[str, float]) -> dict[str, float]:
    """Bytes of all ranks, times of the slowest one, memory of the largest one. Collective."""
    names = list(own)
    values = torch.tensor([float(own[name]) for name in names], dtype=torch.float64, device=world.device)
    ranks = world.all_gather(values).cpu()
    slowest = int(ranks[:, names.index("time/epoch_s")].argmax())
    merged: dict[str, float] = {}
    for column, name in enumerate(names):
        if name.startswith("comm/"):
            merged[name] = int(ranks[:, column].sum())
        elif name.startswith("time/"):
            merged[name] = float(ranks[slowest, column])
        else:
            merged[name] = float(ranks[:, column].max())
    return merged | {
        "epoch": int(own["epoch"]),
        "memory/peak_rss_bytes": int(merged["memory/peak_rss_bytes"]),
    }
