from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Grid

__all__ = ["N_SHARES", "spread_in_layer"]

N_SHARES = 4
"""Voxels that a cell is shared out among."""


def spread_in_layer(
    points: NDArray[np.float64], weights: NDArray[np.float64], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share every point out among the four voxels of its layer whose centres surround it.

    Each gets the part of a voxel-sized square around the point that it covers (cloud in cell; Hockney & Eastwood,
    Computer Simulation Using Particles, 1988, chapter 5). The total is kept, and a regular pattern of cells gives an
    even density instead of one with holes wherever no cell happens to fall.

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
    Positions (4 n, 3), each inside its voxel, and weights (4 n,).
    """
    corner = (points[:, :2] - grid.origin[:2]) / grid.voxel_size - 0.5
    base = np.floor(corner)
    upper = corner - base  # share of the next voxel along each axis
    spread, shares = [], []
    for i in (0, 1):
        for j in (0, 1):
            center = grid.origin[:2] + (base + [i, j] + 0.5) * grid.voxel_size
            spread.append(np.column_stack([center, points[:, 2]]))
            shares.append(weights * np.abs(1 - i - upper[:, 0]) * np.abs(1 - j - upper[:, 1]))
    return np.concatenate(spread), np.concatenate(shares)
