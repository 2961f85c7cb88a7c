from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ._color import Classes, Coloring, codes_of
from ._grid import Voxels, coarsened, pooled, surface_of
from ._style import with_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Pooling

__all__ = ["Blocks", "Part", "Scene"]

# Shells at rising parts of the colour scale, ever more opaque: low values let the inside of the tissue through.
_LEVEL_OPACITY = (0.03, 0.08, 0.2, 0.4, 0.8)
# The commoner a category, the fainter: what fills most of the tissue would hide the rest.
_CLASS_OPACITY, _FAINTEST, _STRONGEST = 0.02, 0.03, 0.5


@dataclass(frozen=True)
class Part:
    """What a scene colours by one thing: everything or, of several genes, where one is the most expressed.

    Attributes
    ----------
    coloring
        Of all n voxels.
    kept
        Which of them the 3D view draws (n,).
    """

    coloring: Coloring
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class Blocks:
    """What the 3D view draws of a part: voxels or, where there are too many, blocks of them.

    Attributes
    ----------
    coloring
        Of the part.
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
    """

    coloring: Coloring
    voxels: Voxels
    values: NDArray[np.float64]
    levels: NDArray[np.intp]
    on_surface: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    group: NDArray[np.intp]

    def opacity(self, level: int) -> float:
        """Opacity of a shell."""
        if not isinstance(self.coloring.shades, Classes):
            return _LEVEL_OPACITY[level]
        return float(np.clip(_CLASS_OPACITY / np.mean(self.levels == level), _FAINTEST, _STRONGEST))

    @property
    def shells(self) -> list[tuple[int, NDArray[np.bool_]]]:
        """Every level that there is and the blocks (m,) of its shell."""
        return [(int(level), self.on_surface & (self.levels == level)) for level in np.unique(self.levels)]


@dataclass(frozen=True)
class Scene:
    """A volume and what to colour it by, whichever library draws it.

    Attributes
    ----------
    voxels
        Where the n voxels lie.
    parts
        What they are coloured by.
    weights
        What each voxel counts in an average (n,).
    measured_depths
        Depths of the measured sections, input units.
    frames
        Lines to draw around the tissue, (k, 3) each, input units.
    unit
        Unit of the positions, if known.
    max_voxels
        Most voxels of the 3D view.
    """

    voxels: Voxels
    parts: tuple[Part, ...]
    weights: NDArray[np.float64]
    measured_depths: NDArray[np.float64]
    frames: list[NDArray[np.float64]]
    unit: str | None
    max_voxels: int

    @property
    def colorings(self) -> list[Coloring]:
        """Of the parts."""
        return [part.coloring for part in self.parts]

    @property
    def title(self) -> str:
        """Names of what is drawn."""
        return ", ".join(coloring.shades.name for coloring in self.colorings)

    def rgba_of(self, group: NDArray[np.intp], *, how: Pooling) -> NDArray[np.float64]:
        """Colours (m, 4) of groups of voxels, each by the part of the largest pooled value."""
        values = np.stack([self._pooled(coloring, group, how=how) for coloring in self.colorings])
        colors = np.stack([coloring.rgba(row) for coloring, row in zip(self.colorings, values, strict=True)])
        highest = np.argmax(np.nan_to_num(values, nan=-np.inf), axis=0)
        return np.asarray(colors[highest, np.arange(len(highest))], dtype=np.float64)

    def _pooled(self, coloring: Coloring, group: NDArray[np.intp], *, how: Pooling) -> NDArray[np.float64]:
        """Pool the values of all voxels; of categories always the one of most cells counts."""
        how = "majority" if isinstance(coloring.shades, Classes) else how
        return pooled(coloring.values, group, weights=self.weights, how=how)

    @cached_property
    def _merged(self) -> tuple[NDArray[np.bool_], Voxels, NDArray[np.intp]]:
        """Which voxels (n,) any part draws, the blocks that at most `max_voxels` of them make, the block of each."""
        drawn = np.any([part.kept for part in self.parts], axis=0)
        return drawn, *coarsened(self.voxels.subset(drawn), at_most=self.max_voxels)

    @property
    def block_size(self) -> float:
        """Edge of a block, input units."""
        return self._merged[1].size

    def measured_at(self, z: float) -> NDArray[np.float64]:
        """Depths of the measured sections in the layer of blocks at z."""
        return self._merged[1].in_layer_of(z, self.measured_depths)

    @property
    def note(self) -> str:
        """What to tell the reader when blocks are drawn for voxels; else empty."""
        drawn, merged, _ = self._merged
        if merged.size == self.voxels.size:
            return ""
        edge = with_unit(f"{merged.size:.4g}", self.unit)
        return f"{drawn.sum():,} voxels drawn as {len(merged.index):,} blocks of {edge}"

    def blocks(self) -> list[Blocks]:
        """Merge the voxels until at most `max_voxels` are left, and divide them among the parts."""
        return [self._blocks_of(part) for part in self.parts]

    def _blocks_of(self, part: Part) -> Blocks:
        drawn, merged, group = self._merged
        ids, own_group = np.unique(group[part.kept[drawn]], return_inverse=True)
        density = np.bincount(own_group, self.voxels.density[part.kept], len(ids)).astype(np.float64)
        voxels = Voxels(merged.index[ids], density, merged.origin, merged.size)
        is_class = isinstance(part.coloring.shades, Classes)
        how: Pooling = "majority" if is_class else "mean"
        values = pooled(part.coloring.values[part.kept], own_group, weights=self.weights[part.kept], how=how)
        levels = codes_of(values) if is_class else _levels(values, part.coloring.scale)
        on_surface = surface_of(voxels.index, levels, nested=not is_class)
        return Blocks(part.coloring, voxels, values, levels, on_surface, part.kept, own_group)


def _levels(values: NDArray[np.float64], scale: tuple[float, float]) -> NDArray[np.intp]:
    low, high = scale
    position = (np.nan_to_num(values, nan=low) - low) / (high - low)
    return np.clip(position * len(_LEVEL_OPACITY), 0, len(_LEVEL_OPACITY) - 1).astype(np.intp)
