from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Grid

__all__ = ["N_SHARES", "spread_in_layer"]

N_SHARES = 9
"""Voxels that a cell is shared out among."""


def spread_in_layer(
    points: NDArray[np.float64], weights: NDArray[np.float64], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share every point out among the nine voxels of its layer around it.

    Each gets the part that it holds of a cloud around the point, two voxels wide and falling off linearly along x and y
    (triangular shaped cloud; Hockney & Eastwood, Computer Simulation Using Particles, 1988, chapter 5). The total is
    kept: what lies beyond the grid counts at its edge. A regular pattern of cells gives an even density, and tissue of
    irregular cells has no hole wherever no cell happens to fall.

    Parameters
    ----------
    points
        Positions (n, 3), input units.
    weights
        What each point counts, (n,).
    grid
        The voxels.

    Returns
    -------
    Positions (9 n, 3), each the centre of its voxel in x and y, and weights (9 n,).
    """
    place = (points[:, :2] - grid.origin[:2]) / grid.voxel_size - 0.5
    nearest = np.rint(place)
    off = place - nearest  # from the centre of the nearest voxel, -½ to ½
    parts = {-1: (0.5 - off) ** 2 / 2, 0: 0.75 - off**2, 1: (0.5 + off) ** 2 / 2}
    last = np.array(grid.shape[:2]) - 1
    spread, shares = [], []
    for i, along_x in parts.items():
        for j, along_y in parts.items():
            center = grid.origin[:2] + (np.clip(nearest + np.array([i, j]), 0, last) + 0.5) * grid.voxel_size
            spread.append(np.column_stack([center, points[:, 2]]))
            shares.append(weights * along_x[:, 0] * along_y[:, 1])
    return np.concatenate(spread), np.concatenate(shares)
