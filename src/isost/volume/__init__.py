"""The voxel grid, the sums over its voxels, and genes from principal components."""

from __future__ import annotations

from ._accumulate import Accumulator, Voxels
from ._decode import decode, decoded_bytes
from ._grid import Grid, cell_spacing, default_voxel_size
from ._pinholes import fill_pinholes
from ._plane import plane_axes, read_plane
from ._spread import N_SHARES, spread_in_layer

__all__ = [
    "N_SHARES",
    "Accumulator",
    "Grid",
    "Voxels",
    "cell_spacing",
    "decode",
    "decoded_bytes",
    "default_voxel_size",
    "fill_pinholes",
    "plane_axes",
    "read_plane",
    "spread_in_layer",
]
