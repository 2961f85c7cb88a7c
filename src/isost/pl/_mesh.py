from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_closing, gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Voxels

__all__ = ["Mesh", "mesh_around"]

_PAD = 3  # voxels of empty space around, which the surface closes in
_CLOSING = 2  # voxels that a hole in the outline is narrowed by from each side


@dataclass(frozen=True)
class Mesh:
    """A closed surface of triangles.

    Attributes
    ----------
    name
        What it encloses.
    color
        Its colour.
    vertices
        Corners (v, 3), input units.
    faces
        The three corners of each triangle (f, 3), anticlockwise seen from outside.
    is_outline
        Whether it encloses the whole volume.
    """

    name: str
    color: str
    vertices: NDArray[np.float64]
    faces: NDArray[np.intp]
    is_outline: bool


def mesh_around(
    voxels: Voxels,
    membership: NDArray[np.float64],
    *,
    name: str,
    color: str,
    smoothing: float,
    is_outline: bool = False,
) -> Mesh | None:
    """Lay a surface around the voxels whose membership (n,), from 0 to 1, is above a half.

    Marching cubes (Lorensen and Cline 1987, in scikit-image) on the memberships, smoothed by a Gaussian of standard
    deviation `smoothing` voxels; space without voxels has membership 0, but an outline has none of the holes that few
    voxels fill. None where nothing is enclosed.
    """
    from skimage.measure import marching_cubes

    grid = np.pad(voxels.dense(membership), _PAD)
    if is_outline:
        grid = np.maximum(grid, binary_closing(grid > 0.5, iterations=_CLOSING))
    grid = gaussian_filter(grid, smoothing, mode="constant")
    if grid.max() <= 0.5:
        return None
    corners, faces, _, _ = marching_cubes(grid, 0.5, gradient_direction="ascent")
    # the grid's points are the voxels' centres
    vertices = voxels.origin + (corners - _PAD + 0.5) * voxels.size
    return Mesh(name, color, vertices, faces.astype(np.intp), is_outline)
