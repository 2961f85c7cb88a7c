from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from isost._checks import check_positive
from isost._nearest import nearest_points

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Grid", "cell_spacing", "default_voxel_size"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cubic voxels of one edge length: equal resolution in x, y and z.

    The centre of voxel (i, j, k) lies at ``origin + ((i, j, k) + ½) · voxel_size``; a voxel owns its lower faces
    and not its upper ones.

    Attributes
    ----------
    origin
        Corner of voxel (0, 0, 0), shape (3,), input units.
    voxel_size
        Edge of a voxel, input units.
    shape
        Number of voxels along x, y and z.

    Raises
    ------
    ValueError
        If a value is not finite, an edge or a shape is not positive, or there are more voxels than int64 can number.
    """

    origin: NDArray[np.float64]  # (3,)
    voxel_size: float
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        origin = np.array(self.origin, dtype=np.float64)
        if origin.shape != (3,) or not np.isfinite(origin).all():
            msg = f"origin of a grid is three finite numbers, got {self.origin!r}"
            raise ValueError(msg)
        if len(self.shape) != 3 or min(self.shape) < 1:
            msg = f"shape of a grid is three positive numbers, got {self.shape!r}"
            raise ValueError(msg)
        shape = (int(self.shape[0]), int(self.shape[1]), int(self.shape[2]))
        if math.prod(shape) > np.iinfo(np.int64).max:
            msg = f"a grid of shape {shape} has more voxels than can be numbered; choose a larger voxel_size"
            raise ValueError(msg)
        origin.flags.writeable = False
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "voxel_size", _checked_voxel_size(self.voxel_size))
        object.__setattr__(self, "shape", shape)

    @classmethod
    def covering(cls, lower: ArrayLike, upper: ArrayLike, voxel_size: float) -> Grid:
        """Smallest padded grid over a box of tissue.

        In z the first layer is centred on the lower bound, the first section, and layers go on without a gap until
        one holds the upper bound, the last section; that layer's centre may lie up to half a voxel beyond it. In
        x and y the box is padded to whole voxels, the same on both sides and by at least half a voxel, so that
        rounding never leaves an outermost cell outside.

        Parameters
        ----------
        lower, upper
            Corners of the box, shape (3,), input units.
        voxel_size
            Edge of a voxel, input units.

        Raises
        ------
        ValueError
            If the box is not finite or upside down, or `voxel_size` is not positive.
        """
        low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        if low.shape != (3,) or high.shape != (3,) or not np.isfinite([low, high]).all() or (high < low).any():
            msg = f"a grid covers a box with finite lower <= upper of shape (3,), got {lower!r} and {upper!r}"
            raise ValueError(msg)
        size = _checked_voxel_size(voxel_size)
        n_plane = np.ceil((high[:2] - low[:2]) / size) + 1
        padding = n_plane * size - (high[:2] - low[:2])
        origin = np.append(low[:2] - padding / 2, low[2] - size / 2)
        # The same expression as in `index`, so that rounding cannot put the last section above the last layer.
        n_layers = np.floor((high[2] - origin[2]) / size) + 1
        return cls(origin, size, (int(n_plane[0]), int(n_plane[1]), int(n_layers)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        same_size = self.shape == other.shape and self.voxel_size == other.voxel_size
        return same_size and np.array_equal(self.origin, other.origin)

    __hash__ = None  # type: ignore[assignment]

    def index(self, points: ArrayLike) -> NDArray[np.int64]:
        """Voxel of each point.

        Parameters
        ----------
        points
            Positions, shape (n, 3), input units.

        Returns
        -------
        Shape (n, 3); for points outside the grid, an index that `contains` refuses.
        """
        scaled = np.floor((np.asarray(points, dtype=np.float64) - self.origin) / self.voxel_size)
        # Beyond the grid every index means the same; bounding it keeps far points within int64.
        return np.clip(scaled, -1, self.shape).astype(np.int64)

    def contains(self, index: ArrayLike) -> NDArray[np.bool_]:
        """Whether each voxel index, shape (n, 3), lies in the grid; shape (n,)."""
        voxel = np.asarray(index)
        return np.asarray(((voxel >= 0) & (voxel < np.array(self.shape))).all(axis=-1))

    def centers(self, index: ArrayLike) -> NDArray[np.float64]:
        """Centres of voxels given by their index, both of shape (n, 3), input units."""
        return np.asarray(self.origin + (np.asarray(index) + 0.5) * self.voxel_size)

    def layer_depths(self) -> NDArray[np.float64]:
        """Depth z of each layer's centre from first to last, shape (shape[2],), input units."""
        return np.asarray(self.origin[2] + (np.arange(self.shape[2]) + 0.5) * self.voxel_size)

    def to_dict(self) -> dict[str, Any]:
        """As plain arrays and numbers, for `uns`."""
        return {"origin": self.origin.copy(), "voxel_size": self.voxel_size, "shape": np.array(self.shape)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Grid:
        """From what `to_dict` gave."""
        nx, ny, nz = (int(n) for n in values["shape"])
        return cls(values["origin"], float(values["voxel_size"]), (nx, ny, nz))


def cell_spacing(sections: Sequence[ArrayLike]) -> float:
    """Median distance from a cell to its nearest neighbour in the same section, over all cells.

    Parameters
    ----------
    sections
        Positions of each section's cells, shape (n, 2) or (n, 3); only x and y count.

    Returns
    -------
    The distance, in the unit of the positions; NaN when no section has two cells.
    """
    planes = [np.asarray(section, dtype=np.float64)[:, :2] for section in sections]
    nearest = [nearest_points(cKDTree(plane), plane, 2, first=2)[0][:, 0] for plane in planes if len(plane) > 1]
    return float(np.median(np.concatenate(nearest))) if nearest else math.nan


def default_voxel_size(sections: Sequence[ArrayLike], *, factor: float = 1.5) -> float:
    """Edge of a voxel that fits the spacing of cells inside the sections.

    The median distance from a cell to its nearest neighbour in the same section, over all cells, times `factor`,
    rounded to two digits.

    Parameters
    ----------
    sections
        Positions of each section's cells, shape (n, 2) or (n, 3), input units; only x and y count.
    factor
        Voxel edge over median spacing. At 1 nearly every cell has a voxel to itself and most voxels of the tissue
        stay empty; at 1.5 an occupied voxel holds one or two cells of a section, in irregular tissue (1.3 in the
        MERFISH hypothalamus) as on spot arrays (1.9 in the synovium); beyond 2 neighbours are averaged away.

    Returns
    -------
    Voxel edge, input units.

    Raises
    ------
    ValueError
        If no section has two cells, or most cells share their place with another.
    """
    spacing = cell_spacing(sections)
    if np.isnan(spacing):
        msg = "no section has two cells to measure their spacing by; pass voxel_size"
        raise ValueError(msg)
    if spacing == 0:
        msg = "most cells lie exactly on another cell of their section, so there is no spacing; pass voxel_size"
        raise ValueError(msg)
    return float(f"{factor * spacing:.1e}")


def _checked_voxel_size(voxel_size: float) -> float:
    size = float(voxel_size)
    check_positive(voxel_size=size)
    return size
