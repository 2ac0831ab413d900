"""Our convolutions as DGL's own: GraphConv (both), SAGEConv (mean) and GATConv of dgl.nn."""

from __future__ import annotations

from bnsgcn.nn.conv import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.out.best_model import BestModel
from bnsgcn.out.their_layers import TheirLayer, bias_of, their_layers


def dgl_layers(best: BestModel) -> dict[str, TheirLayer]:
    """The layers of a model, for a graph that has the model's self loops already.

    GATConv gives [N, heads, width]: flattened after every layer but the last, whose heads are averaged.
    """
    return their_layers(best, _dgl_layer)


def _dgl_layer(conv: Conv) -> TheirLayer:
    sizes = f"{conv.in_features}, {conv.out_features}"
    if isinstance(conv, GCNConv):
        bias = bias_of(conv.bias, conv.out_features, conv.weight)
        made = f"dgl.nn.GraphConv({sizes}, allow_zero_in_degree=True)"
        return TheirLayer(made, {"weight": conv.weight.t(), "bias": bias})
    if isinstance(conv, SAGEConv):
        weights = {
            "fc_neigh.weight": conv.weight_neigh,
            "fc_self.weight": conv.weight_self,
            "fc_self.bias": bias_of(conv.bias, conv.out_features, conv.weight_self),
        }
        return TheirLayer(f"dgl.nn.SAGEConv({sizes}, 'mean')", weights)
    assert isinstance(conv, GATConv)
    width = conv.out_features * (conv.heads if conv.concat else 1)
    bias = bias_of(conv.bias, width, conv.weight)
    weights = {
        "fc.weight": conv.weight,
        "attn_l": conv.score_src,
        "attn_r": conv.score_dst,
        "bias": bias if conv.concat else bias.repeat(conv.heads),  # their bias is added before the mean
    }
    return TheirLayer(f"dgl.nn.GATConv({sizes}, {conv.heads}, allow_zero_in_degree=True)", weights)
