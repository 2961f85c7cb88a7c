"""Networks of the drift: pure torch, no AnnData."""

from __future__ import annotations

from ._drift import Drift
from ._graph_transformer import GraphTransformer
from ._graph_unet import GraphUNet
from ._neighbors import nearest_neighbors
from ._published import from_published, to_published

__all__ = ["Drift", "GraphTransformer", "GraphUNet", "from_published", "nearest_neighbors", "to_published"]
