from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isost import _keys
from isost._checks import check_volume
from isost._logging import logger

from ._style import with_unit

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    Pooling = Literal["mean", "max", "majority"]

__all__ = [
    "Voxels",
    "check_depth",
    "coarsened",
    "groups_of",
    "measured_depths",
    "pooled",
    "surface_of",
    "told_sections",
    "voxels_of",
]


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a volume lie.

    Attributes
    ----------
    index
        Integer indices (n, 3).
    density
        Expected cells in each voxel (n,).
    origin
        Corner of voxel (0, 0, 0), input units (3,).
    size
        Edge of a voxel, input units.
    """

    index: NDArray[np.int64]
    density: NDArray[np.float64]
    origin: NDArray[np.float64]
    size: float

    @property
    def centers(self) -> NDArray[np.float64]:
        """Voxel centres (n, 3), input units."""
        return np.asarray(self.origin + (self.index + 0.5) * self.size, dtype=np.float64)

    @property
    def shape(self) -> NDArray[np.int64]:
        """Number of voxels in x, y, z from voxel (0, 0, 0) to the last occupied one."""
        return np.asarray(self.index.max(axis=0) + 1, dtype=np.int64)

    @property
    def extent(self) -> NDArray[np.float64]:
        """Width in x, y, z of the box from the origin to the last occupied voxel, input units."""
        return np.asarray(self.shape * self.size, dtype=np.float64)

    def ends(self, axis: int) -> NDArray[np.float64]:
        """Centres (2,) of the first and the last voxel along x, y or z, input units."""
        ends = np.array([0, self.shape[axis] - 1])
        return np.asarray(self.origin[axis] + (ends + 0.5) * self.size, dtype=np.float64)

    def layers_of(self, depths: NDArray[np.float64]) -> NDArray[np.int64]:
        """Find the layers of voxels that depths (m,) lie in; a layer owns its lower face, as in `isost.volume.Grid`."""
        return np.asarray(np.floor((depths - self.origin[2]) / self.size), dtype=np.int64)

    def in_layer_of(self, z: float, depths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take those of the depths (m,) that lie in the layer of voxels of z."""
        return np.asarray(depths[self.layers_of(depths) == self.layers_of(np.array(z))])

    def subset(self, rows: NDArray[np.bool_]) -> Voxels:
        """Take the voxels of the rows (n,)."""
        return Voxels(self.index[rows], self.density[rows], self.origin, self.size)

    def dense(self, values: NDArray[Any], *, empty: float = 0.0) -> NDArray[np.float64]:
        """Lay values (n,) out on the whole grid, `empty` where there is no voxel."""
        out = np.full(tuple(self.shape), empty)
        out[tuple(self.index.T)] = values
        return out


def voxels_of(volume: AnnData) -> Voxels:
    """Read a volume's grid; an AnnData without one is not a volume."""
    check_volume(volume)
    if not volume.n_obs:
        msg = "the volume has no voxels"
        raise ValueError(msg)
    index = np.asarray(volume.obsm[_keys.VOXEL], dtype=np.int64)
    density = volume.obs[_keys.DENSITY].to_numpy(dtype=np.float64)
    grid = volume.uns[_keys.UNS]["grid"]
    return Voxels(index, density, np.asarray(grid["origin"], np.float64), float(grid["voxel_size"]))


def check_depth(z: float, voxels: Voxels) -> None:
    """Refuse a depth outside the volume."""
    low, high = voxels.origin[2], voxels.origin[2] + voxels.extent[2]
    if not low <= z <= high:
        msg = f"z = {z:g} lies outside the volume, which spans z = {low:g} to {high:g}"
        raise ValueError(msg)


def measured_depths(volume: AnnData, voxels: Voxels) -> NDArray[np.float64]:
    """Depths (m,) of the measured sections that lie in the volume; in an older one, of the layers that they lie in."""
    sections = volume.uns[_keys.UNS].get(_keys.SECTIONS)
    if sections is not None:
        depths = np.unique(np.asarray(sections["z"], dtype=np.float64))
        return depths[np.isin(voxels.layers_of(depths), voxels.index[:, 2])]
    if _keys.MEASURED not in volume.obs:
        return np.empty(0)
    return np.unique(voxels.centers[volume.obs[_keys.MEASURED].to_numpy(dtype=bool), 2])


def told_sections(z: float, sections: NDArray[np.float64], unit: str | None) -> str:
    """Tell which measured sections (m,) the layer of voxels at z holds: none, one at z itself, or at which depths."""
    if not len(sections):
        return ""
    if np.allclose(sections, z):
        return "measured"
    depths = ", ".join(f"{depth:.5g}" for depth in sections)
    return with_unit(f"section{'s' if len(sections) > 1 else ''} at {depths}", unit)


def groups_of(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Find the distinct rows (m, d) of `index` (n, d), and for each row which of them it is (n,)."""
    shape = tuple(index.max(axis=0) + 1)
    flat, group = np.unique(np.ravel_multi_index(tuple(index.T), shape), return_inverse=True)
    return np.stack(np.unravel_index(flat, shape), axis=1).astype(np.int64), group


def pooled(
    values: NDArray[np.float64], group: NDArray[np.intp], *, weights: NDArray[np.float64], how: Pooling
) -> NDArray[np.float64]:
    """Pool values (n,) into groups (m,): weighted mean, largest, or the code of the largest weight; NaN if none."""
    m = int(group.max()) + 1
    known = np.isfinite(values) & (values >= 0 if how == "majority" else True)
    values, group, weights = values[known], group[known], weights[known]
    out = np.full(m, np.nan)
    if not len(values):
        return out
    if how == "max":
        np.fmax.at(out, group, values)
    elif how == "mean":
        total = np.bincount(group, weights, m)
        np.divide(np.bincount(group, weights * values, m), total, out=out, where=total > 0)
    else:
        n_codes = int(values.max()) + 1
        votes = np.bincount(group * n_codes + values.astype(np.intp), weights, m * n_codes).reshape(m, n_codes)
        out = np.where(votes.any(axis=1), votes.argmax(axis=1).astype(np.float64), np.nan)
    return out


def coarsened(voxels: Voxels, *, at_most: int) -> tuple[Voxels, NDArray[np.intp]]:
    """Merge blocks of f×f×f voxels, f the smallest that leaves at most `at_most`; also each voxel's block (n,).

    Merging, unlike leaving voxels out, keeps every region at its mean and the tissue without holes.
    """
    factor = 1
    index, group = groups_of(voxels.index)
    while len(index) > at_most and factor < voxels.shape.max():
        factor += 1
        index, group = groups_of(voxels.index // factor)
    if factor > 1:
        logger.info(
            "%d voxels are drawn as %d blocks of %d×%d×%d", len(voxels.index), len(index), factor, factor, factor
        )
    density = np.bincount(group, voxels.density, len(index)).astype(np.float64)
    return Voxels(index, density, voxels.origin, voxels.size * factor), group


def surface_of(index: NDArray[np.int64], levels: NDArray[np.intp], *, nested: bool) -> NDArray[np.bool_]:
    """Find the voxels (n,) with a face towards another level (n,) or towards no voxel at all.

    `nested` levels enclose one another, as those of a quantity do: only a face towards a lower level counts.
    """
    grid = np.full(tuple(index.max(axis=0) + 3), -2, dtype=np.intp)  # -1 is the level of what is unknown
    inner = index + 1
    grid[tuple(inner.T)] = levels
    on_surface = np.zeros(len(index), dtype=bool)
    for step in (*np.eye(3, dtype=np.int64), *-np.eye(3, dtype=np.int64)):
        beyond = grid[tuple((inner + step).T)]
        on_surface |= beyond < levels if nested else beyond != levels
    return on_surface
