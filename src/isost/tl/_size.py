from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from isost._checks import available_memory
from isost._logging import logger
from isost.volume import N_SHARES

if TYPE_CHECKING:
    from isost.pp import Stack
    from isost.volume import Grid

__all__ = ["check_size"]

_BYTES = 24 + 24 + 80 + 25  # of a voxel: its centre, index, name and four columns
_BYTES_OF_LABEL = 16
_TIMES = 2  # the slabs, and the volume that they are joined to
_FINE = 1000  # voxels of a layer for each cell of a section


def check_size(grid: Grid, stack: Stack, *, n_numbers: int, n_labels: int, stored: bool) -> None:
    """Raise ValueError if the volume would not fit in memory, and warn where voxels are far finer than the cells.

    Parameters
    ----------
    grid
        All voxels.
    stack
        Depths and sizes of the sections.
    n_numbers, n_labels
        What each voxel has: numbers of expression, float32, and labels.
    stored
        Whether the volume is written slab by slab instead of being kept in memory.
    """
    n_voxels = math.prod(grid.shape)
    n_bytes = _most_occupied(grid, stack) * _TIMES * (_BYTES + _BYTES_OF_LABEL * n_labels + 4 * n_numbers)
    memory = available_memory()
    if not stored and n_bytes > memory:
        msg = (
            f"voxel_size={grid.voxel_size:g} gives a grid of {n_voxels:,} voxels; those with tissue would take up to "
            f"{n_bytes / 1e9:,.3g} GB of memory, and {memory / 1e9:,.3g} GB are free: choose a larger voxel_size, or "
            f"store= to write the volume slab by slab"
        )
        raise ValueError(msg)
    if n_voxels > _FINE * grid.shape[2] * stack.sizes.mean():
        logger.warning(
            "voxels of %g are far smaller than the spacing of cells: the grid has %s of them, which takes long and "
            "shows no more than a larger voxel_size would",
            grid.voxel_size,
            f"{n_voxels:,}",
        )


def _most_occupied(grid: Grid, stack: Stack) -> float:
    """Count the voxels that can be occupied: no more than the cells of both sections of a gap are shared out among.

    Pinholes that are filled between them come on top, a few in a hundred, but no more than the grid has.
    """
    n_layers = np.ceil(np.diff(stack.z) / grid.voxel_size) + 1
    in_layer = np.minimum(math.prod(grid.shape[:2]), N_SHARES * (stack.sizes[:-1] + stack.sizes[1:]))
    return float(n_layers @ in_layer)
