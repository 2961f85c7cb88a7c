from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Grid

__all__ = ["fill_pinholes"]

_LARGEST = 4  # voxels of a pinhole; a larger one is a cavity


def fill_pinholes(
    index: NDArray[np.int64], density: NDArray[np.float64], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Fill small holes in the tissue of each layer, at which no cell happens to lie between others.

    A pinhole is at most four empty voxels that touch by their sides and that voxels with cells enclose. It gets the
    mean density of the voxels around it, and all densities of the layer are scaled so that their sum is what it was.

    Parameters
    ----------
    index
        Indices (x, y, z) of the voxels with cells (m, 3), in the order of z.
    density
        Their cells (m,), positive.
    grid
        All voxels.

    Returns
    -------
    Indices (m', 3), in the order of z, then y, then x, and cells (m',), positive.
    """
    if not len(index):
        return index, density
    n_x, n_y, _ = grid.shape
    layers = np.unique(index[:, 2])
    starts = np.searchsorted(index[:, 2], layers)
    filled = []
    for layer, own in zip(layers, np.split(np.arange(len(index)), starts[1:]), strict=True):
        plane = np.zeros((n_y, n_x))
        plane[index[own, 1], index[own, 0]] = density[own]
        tissue = plane > 0
        holes, _ = ndimage.label(np.pad(~tissue, 1, constant_values=True))  # what is outside is one, and large
        is_pinhole = (np.bincount(holes.ravel()) <= _LARGEST)[holes][1:-1, 1:-1] & ~tissue
        around = ndimage.uniform_filter(plane, 3, mode="constant") / np.maximum(
            ndimage.uniform_filter(tissue.astype(np.float64), 3, mode="constant"), 1 / 9
        )
        plane[is_pinhole] = around[is_pinhole]
        y, x = np.nonzero(tissue | is_pinhole)
        filled.append((np.column_stack([x, y, np.full(len(x), layer)]), plane[y, x] * density[own].sum() / plane.sum()))
    return np.concatenate([part for part, _ in filled]), np.concatenate([part for _, part in filled])
