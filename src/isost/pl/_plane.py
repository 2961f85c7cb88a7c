from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from isost.volume import plane_axes, read_plane

from ._color import Classes
from ._grid import check_depth, pooled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

    from ._color import Coloring
    from ._grid import Voxels

__all__ = ["PIXELS_PER_VOXEL", "Plane", "colors_of", "draw_plane", "plane_at", "sampled"]

PIXELS_PER_VOXEL = 3  # enough for a smooth picture of what is linear between voxel centres


@dataclass(frozen=True)
class Plane:
    """A rectangle of a plane in space.

    Attributes
    ----------
    origin
        The point (3,) of coordinates 0, 0, input units.
    axes
        Its two axes as columns (3, 2), of length 1 and at right angles.
    low, high
        Ends (2,) of the rectangle along the axes, input units.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Normal (3,) of length 1, towards the end of the axis of space that it is nearest to."""
        normal = np.cross(*self.axes.T)
        return np.asarray(normal * np.sign(normal[np.abs(normal).argmax()]), dtype=np.float64)

    @classmethod
    def at_depth(cls, z: float, voxels: Voxels) -> Plane:
        """Take the depth z: coordinates are x and y."""
        low = voxels.origin[:2]
        return cls(np.array([0.0, 0.0, z]), np.eye(3)[:, :2], low, low + voxels.extent[:2])

    @classmethod
    def through(cls, point: NDArray[np.float64], normal: NDArray[np.float64], voxels: Voxels) -> Plane:
        """Take the plane of a normal of length 1, as far as there is tissue in it or within a voxel of it."""
        axes = plane_axes(normal)
        offsets = voxels.centers - point
        touched = offsets[np.abs(offsets @ normal) <= voxels.size] @ axes
        if not len(touched):
            msg = f"the plane through {point} with normal {normal} does not meet the volume"
            raise ValueError(msg)
        return cls(point, axes, touched.min(axis=0) - voxels.size, touched.max(axis=0) + voxels.size)

    def places(self, pixel: float) -> NDArray[np.float64]:
        """Lay out the centres of pixels in space, (rows, columns, 3)."""
        edges = self.high - self.low
        u, v = ((np.arange(n) + 0.5) / n for n in np.maximum(np.rint(edges / pixel).astype(int), 1))
        flat = self.low + edges * np.stack(np.meshgrid(u, v), axis=-1)
        return np.asarray(self.origin + flat @ self.axes.T, dtype=np.float64)


def plane_at(z: float | None, plane: tuple[Any, Any] | None, voxels: Voxels) -> Plane:
    """Read which plane was asked for: a depth, or a point and a normal."""
    if (z is None) == (plane is None):
        msg = "give one of z= (a depth) and plane=(point, normal): neither or both were given"
        raise ValueError(msg)
    if z is not None:
        check_depth(z, voxels)
        return Plane.at_depth(z, voxels)
    return Plane.through(*read_plane(plane), voxels)


def sampled(voxels: Voxels, coloring: Coloring, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate between voxel centres at places (m, 3): values or codes (m,), NaN outside the tissue.

    Numbers are trilinear means over the voxels there are; of categories the one of the largest weight counts. A place
    is outside when less than half of the weight falls on voxels.
    """
    at = (places - voxels.origin) / voxels.size - 0.5
    base = np.floor(at).astype(np.int64)
    rest = at - base
    row_at = np.pad(voxels.dense(np.arange(len(voxels.index)), empty=-1).astype(np.int64), 1, constant_values=-1)
    rows, weights = [], []
    for corner in product((0, 1), repeat=3):
        index = np.clip(base + corner, -1, voxels.shape)  # the padding is empty
        rows.append(row_at[tuple((index + 1).T)])
        weights.append(np.prod(np.where(corner, rest, 1 - rest), axis=1))
    row, weight = np.concatenate(rows), np.concatenate(weights)
    values = np.where(row < 0, np.nan, coloring.values[row])
    group = np.tile(np.arange(len(places)), 8)
    how = "majority" if isinstance(coloring.shades, Classes) else "mean"
    out = pooled(values, group, weights=weight, how=how)  # type: ignore[arg-type]
    share = np.bincount(group, weight * (row >= 0), len(places))
    return np.where(share >= 0.5 - 1e-9, out, np.nan)


def colors_of(voxels: Voxels, coloring: Coloring, plane: Plane, *, pixel: float) -> NDArray[np.float64]:
    """Colours (rows, columns, 4) of the plane's pixels."""
    places = plane.places(pixel)
    values = sampled(voxels, coloring, places.reshape(-1, 3))
    return coloring.rgba(values.reshape(places.shape[:2]))


def draw_plane(ax: Axes, voxels: Voxels, coloring: Coloring, plane: Plane, *, pixel: float) -> AxesImage:
    """Draw a plane as an image at true proportions, without ticks."""
    (left, bottom), (right, top) = plane.low, plane.high
    image = ax.imshow(
        colors_of(voxels, coloring, plane, pixel=pixel),
        origin="lower",
        extent=(left, right, bottom, top),
        aspect="equal",
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return image
