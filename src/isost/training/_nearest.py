from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import mse_loss

from isost._nearest import nearest_points

__all__ = ["expression_loss", "nearest_measured"]

_BLOCK_ENTRIES = 2**24  # squared distances held at a time by the search on an accelerator


def expression_loss(carried: Tensor, measured: Tensor) -> Tensor:
    """Mean squared difference in expression between carried points and the measured points nearest to them.

    Parameters
    ----------
    carried
        States (n, 3 + G) of the points carried to a section: x, y, z, then G components. Gradients flow to the
        components; none flow through the choice of the nearest point.
    measured
        States (m, 3 + G) of that section's measured points.

    Returns
    -------
    A scalar: the mean over points and components, as isoST (doi:10.1101/2025.08.15.670472) defines it.

    Raises
    ------
    ValueError
        If the two have different columns, or no point was measured.
    """
    if carried.shape[1] != measured.shape[1]:
        msg = f"carried states have {carried.shape[1]} columns, measured ones {measured.shape[1]}"
        raise ValueError(msg)
    nearest = nearest_measured(carried[:, :3], measured[:, :3])
    return mse_loss(carried[:, 3:], measured[nearest, 3:])


@torch.no_grad()
def nearest_measured(positions: Tensor, measured: Tensor) -> Tensor:
    """Index of the measured point nearest to each position.

    Distances are taken in float64 whatever the dtype, with a tree on the CPU and by blocks of rows elsewhere.

    Parameters
    ----------
    positions
        Positions (n, 3).
    measured
        Measured positions (m, 3).

    Returns
    -------
    Indices (n,), int64, on the device of `positions`.

    Raises
    ------
    ValueError
        If no point was measured.
    """
    if len(measured) == 0:
        msg = "there is no measured point to compare with: the section, or this tile of it, is empty"
        raise ValueError(msg)
    if positions.device.type != "cpu":
        return _search_blocks(positions, measured)
    tree = cKDTree(measured.numpy().astype(np.float64))
    _, index = nearest_points(tree, positions.numpy().astype(np.float64), 1)
    return torch.from_numpy(index[:, 0].astype(np.int64, copy=False))


def _search_blocks(positions: Tensor, measured: Tensor) -> Tensor:
    # Differences rather than |x|² + |y|² − 2x·y, which cancels where coordinates are large.
    measured = measured.double()
    n_rows = max(1, _BLOCK_ENTRIES // len(measured))
    found = []
    for block in positions.double().split(n_rows):
        squared = block.new_zeros(len(block), len(measured))
        for axis in range(block.shape[1]):
            squared += (block[:, None, axis] - measured[None, :, axis]).square_()
        found.append(squared.argmin(dim=1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64, device=positions.device)
