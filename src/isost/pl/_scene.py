from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._color import Classes, Numbers
from ._grid import Voxels, coarsened, pooled, surface_of
from ._style import with_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Pooling

__all__ = ["CLASS_OPACITY", "LEVEL_OPACITY", "Blocks", "Scene", "codes_of"]

# Shells at rising parts of the colour scale, ever more opaque: low values let the inside of the tissue through.
LEVEL_OPACITY = (0.03, 0.08, 0.2, 0.4, 0.8)
CLASS_OPACITY = 0.12


def codes_of(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Turn pooled categories back into codes, -1 where there is none."""
    return np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.intp)


@dataclass(frozen=True)
class Blocks:
    """What the 3D view draws: voxels or, where there are too many, blocks of them.

    Attributes
    ----------
    voxels
        Where the m blocks lie.
    values
        Their values, or codes of categories (m,).
    levels
        What they are drawn with in the view of all depths (m,): the fifth of the colour scale, or the category.
    on_surface
        Which are drawn there (m,): those that the shell of their level consists of.
    kept
        Which of the volume's n voxels were drawn at all (n,).
    group
        The block of each voxel kept.
    note
        What to tell the reader when blocks were made; else empty.
    """

    voxels: Voxels
    values: NDArray[np.float64]
    levels: NDArray[np.intp]
    on_surface: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    group: NDArray[np.intp]
    note: str


@dataclass(frozen=True)
class Scene:
    """A volume and what to colour it by, whichever library draws it.

    Attributes
    ----------
    voxels
        Where the n voxels lie.
    shades
        What they are coloured by.
    weights
        What each voxel counts in an average (n,).
    kept
        Which voxels the 3D view draws (n,).
    measured_depths
        Depths of the layers in which a measured section lies, input units.
    scale
        Ends of the colour scale.
    cmap
        Colour map of numbers.
    unit
        Unit of the positions, if known.
    max_voxels
        Most voxels of the 3D view.
    """

    voxels: Voxels
    shades: Numbers | Classes
    weights: NDArray[np.float64]
    kept: NDArray[np.bool_]
    measured_depths: NDArray[np.float64]
    scale: tuple[float, float]
    cmap: str
    unit: str | None
    max_voxels: int

    @property
    def values(self) -> NDArray[np.float64]:
        """Numbers, or codes of categories, as float64 (n,)."""
        return self.shades.values if isinstance(self.shades, Numbers) else self.shades.codes.astype(np.float64)

    def pool(self, group: NDArray[np.intp], *, how: Pooling) -> NDArray[np.float64]:
        """Pool all values into groups (m,); of categories always the one of most cells."""
        return pooled(self.values, group, weights=self.weights, how=self._how(how))

    def _how(self, how: Pooling) -> Pooling:
        return "majority" if isinstance(self.shades, Classes) else how

    def blocks(self) -> Blocks:
        """Merge the kept voxels until at most `max_voxels` are left."""
        kept = self.kept
        all_kept = Voxels(self.voxels.index[kept], self.voxels.density[kept], self.voxels.origin, self.voxels.size)
        merged, group = coarsened(all_kept, at_most=self.max_voxels)
        values = pooled(self.values[kept], group, weights=self.weights[kept], how=self._how("mean"))
        is_merged = len(merged.index) < len(all_kept.index)
        edge = with_unit(f"{merged.size:.4g}", self.unit)
        note = f"{len(all_kept.index):,} voxels drawn as {len(merged.index):,} blocks of {edge}" if is_merged else ""
        levels = self._levels(values)
        on_surface = surface_of(merged.index, levels, nested=isinstance(self.shades, Numbers))
        return Blocks(merged, values, levels, on_surface, kept, group, note)

    def _levels(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        if isinstance(self.shades, Classes):
            return codes_of(values)
        low, high = self.scale
        position = (np.nan_to_num(values, nan=low) - low) / (high - low)
        return np.clip(position * len(LEVEL_OPACITY), 0, len(LEVEL_OPACITY) - 1).astype(np.intp)
