from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = ["sampled_tiles", "spatial_tiles", "tiled_batches"]


def tiled_batches(
    sections: Sequence[Tensor],
    *,
    batch_size: int | None,
    is_usable: Callable[[Sequence[Tensor]], bool],
    generator: torch.Generator | None = None,
) -> list[list[Tensor] | None]:
    """Split one epoch into the tiles that each optimisation step sees.

    Parameters
    ----------
    sections
        State (n_k, ≥ 2) of each section; the first two columns are x and y.
    batch_size
        Most cells of one section in a tile; None for all of them.
    is_usable
        Whether a tile, given as the rows of every section in it, has what a step needs; others are left out.
    generator
        Turns the tiling anew, so that borders do not always fall in the same place, and shuffles the tiles; None
        leaves both as they are.

    Returns
    -------
    For each step the rows of every section, or one None, for all rows, when no section exceeds `batch_size`.
    """
    if batch_size is None or max(map(len, sections)) <= batch_size:
        return [None]
    tiles = [tile for tile in spatial_tiles(sections, batch_size=batch_size, generator=generator) if is_usable(tile)]
    if generator is None:
        return [*tiles]
    order = torch.randperm(len(tiles), generator=generator, device=generator.device)
    return [tiles[i] for i in order.tolist()]


@torch.no_grad()
def spatial_tiles(
    sections: Sequence[Tensor], *, batch_size: int, generator: torch.Generator | None = None
) -> list[list[Tensor]]:
    """Cut all sections along the same lines in xy into tiles of at most `batch_size` cells of each section.

    Unlike a random subset a tile keeps the density of its section, and with it the graph that the drift sees. Tiles
    are halved at the median of all sections' cells, across the longer side, until every section's part is small
    enough.

    Parameters
    ----------
    sections
        State (n_k, ≥ 2) of each section; the first two columns are x and y.
    batch_size
        Most cells of one section in a tile.
    generator
        Draws the angle of the lines; None cuts along the axes.

    Returns
    -------
    For each tile the rows of every section in it, ascending, int64; each row is in exactly one tile.
    """
    device = sections[0].device
    xy = torch.cat([section[:, :2] for section in sections]).to("cpu", torch.float64)
    if generator is not None:
        angle = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).cpu() * torch.pi
        xy = xy @ torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).view(2, 2)
    sizes = torch.tensor([len(section) for section in sections])
    owner = torch.repeat_interleave(torch.arange(len(sections)), sizes)
    first = sizes.cumsum(0) - sizes
    pending, tiles = [torch.arange(len(xy))], []
    while pending:
        tile = pending.pop()
        if int(owner[tile].bincount(minlength=1).max()) <= batch_size:
            tiles.append([(tile[owner[tile] == k] - first[k]).sort().values.to(device) for k in range(len(sections))])
            continue
        width = xy[tile].amax(0) - xy[tile].amin(0)
        order = tile[xy[tile, int(width.argmax())].argsort(stable=True)]
        pending += [order[len(order) // 2 :], order[: len(order) // 2]]
    return tiles


def sampled_tiles(section: Tensor, n_cells: int, *, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Draw compact tiles of one section that hold about `n_cells` of its cells, at full density.

    Parameters
    ----------
    section
        State (n, ≥ 2); the first two columns are x and y.
    n_cells
        Cells wanted; at least one tile is drawn, and never more cells than there are.
    batch_size
        Most cells of a tile.
    generator
        Draws the angle of the lines between tiles, and the tiles.

    Returns
    -------
    Rows of each tile drawn, ascending, int64.
    """
    tiles = [tile for (tile,) in spatial_tiles([section], batch_size=batch_size, generator=generator)]
    n_tiles = max(1, round(len(tiles) * min(n_cells / len(section), 1.0)))
    return [tiles[i] for i in torch.randperm(len(tiles), generator=generator)[:n_tiles].tolist()]
