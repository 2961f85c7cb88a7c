from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from isost._settings import settings

from ._graph_transformer import GraphTransformer
from ._graph_unet import GraphUNet
from ._neighbors import nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

__all__ = ["Drift"]


class Drift(nn.Module):
    """Drift du/dz of the state u = (s, g) in one direction: position and expression over one spatial graph.

    The shape drift μ_s(s) is a graph transformer on the positions, the expression drift μ_g(s, g) a graph U-Net on
    positions and principal components; both look at the nearest neighbours in 3D (isoST, bioRxiv
    10.1101/2025.08.15.670472).

    Parameters
    ----------
    n_comps
        Principal components G of the expression; 0 for a drift of positions alone.
    hidden_dim
        Width H of both networks.
    n_heads
        Attention heads of the graph transformer.
    unet_depth
        Poolings of the graph U-Net.
    n_neighbors
        Neighbours of every point in the spatial graph.
    planar
        All points of a frame keep one depth: dz/dz = 1, and the shape drift has two outputs.

    Attributes
    ----------
    shape
        `GraphTransformer` 3 → H → 3, or 2 when planar.
    expression
        `GraphUNet` 3 + G → H → G, or None when n_comps is 0.
    """

    def __init__(
        self,
        n_comps: int,
        *,
        hidden_dim: int = 64,
        n_heads: int = 1,
        unet_depth: int = 2,
        n_neighbors: int = 5,
        planar: bool = False,
    ) -> None:
        super().__init__()
        self.n_comps = n_comps
        self.n_neighbors = n_neighbors
        self.planar = planar
        self.shape = GraphTransformer(3, hidden_dim, 2 if planar else 3, n_heads=n_heads)
        self.expression = GraphUNet(3 + n_comps, hidden_dim, n_comps, depth=unet_depth) if n_comps else None

    def forward(
        self,
        state: Tensor,
        *,
        sizes: Sequence[int] | None = None,
        table: Tensor | None = None,
        parts: Literal["both", "shape", "expression"] = "both",
    ) -> Tensor:
        """Drift du/dz (n, 3 + G) of every point, in state units per unit of z.

        Parameters
        ----------
        state
            Normalised state (n, 3 + G); the points of one block (gap) lie one after another.
        sizes
            Points in each block, summing to n; one block when None. Blocks do not see each other.
        table
            Neighbours of every point (n, k); built from the positions when None. No gradient flows through it.
        parts
            Which networks speak: where one is left out, its coordinates stand still. In planar mode z always moves
            with dz/dz = 1.

        Returns
        -------
        Drift (n, 3 + G).

        Raises
        ------
        ValueError
            When `state` does not have 3 + G columns, or the blocks do not suit it (see `nearest_neighbors`).
        """
        if state.ndim != 2 or state.shape[1] != 3 + self.n_comps:
            msg = (
                f"state has shape {tuple(state.shape)}, but this drift needs (n, {3 + self.n_comps}): n_comps is wrong"
            )
            raise ValueError(msg)
        position = state[:, :3]
        if table is None:
            table = nearest_neighbors(position, self.n_neighbors, sizes=sizes)
        with _precision(state.device):
            moved = self.shape(position, table) if parts != "expression" else torch.zeros_like(position)
            if self.expression is None or parts == "shape":
                changed = torch.zeros_like(state[:, 3:])
            else:
                changed = self.expression(state, table, sizes=sizes)
        shape = [moved[:, :2], torch.ones_like(moved[:, :1])] if self.planar else [moved]
        return torch.cat([*shape, changed], dim=1).to(state.dtype)


def _precision(device: torch.device) -> AbstractContextManager[Any]:
    """Compute as `isost.settings` has it."""
    return torch.autocast(device.type, torch.bfloat16) if settings.precision == "bfloat16" else nullcontext()
