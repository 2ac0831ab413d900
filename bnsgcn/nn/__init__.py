"""Layers and models. A model is any torch.nn.Module whose forward takes (hops, x) and returns logits."""

from bnsgcn.nn.conv import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.nn.dropout import Dropout
from bnsgcn.nn.hop import Hop
from bnsgcn.nn.models import GNN
from bnsgcn.nn.norm import NormReluDropout, SyncBatchNorm

__all__ = [
    "GNN",
    "Conv",
    "Dropout",
    "GATConv",
    "GCNConv",
    "Hop",
    "NormReluDropout",
    "SAGEConv",
    "SyncBatchNorm",
]
