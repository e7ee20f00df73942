"""The small layers of the network: adapters, the head and embedding tables."""

from __future__ import annotations

from torch import nn

from model.data.config import Adapter


def adapter(kind: Adapter, inputs: int, outputs: int) -> nn.Module:
    """Return a fresh adapter from vectors of one width to vectors of another."""
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs))


def embedding_head(inputs: int, outputs: int) -> nn.Linear:
    """Return a fresh head: orthogonal, so that it changes angles little, and without a bias.

    Without a bias, the direction of the hidden state alone decides the embedding.
    """
    head = nn.Linear(inputs, outputs, bias=False)
    nn.init.orthogonal_(head.weight)
    return head


def embedding_table(rows: int, width: int, std: float) -> nn.Embedding:
    """Return a fresh table of vectors whose numbers have this standard deviation."""
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=std)
    return table
