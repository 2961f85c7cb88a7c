from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._local_linear import LocalLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["choose_width"]

_CANDIDATES = (8, 12, 17, 24, 34, 48, 68, 96, 136, 192)
_N_PROBES = 1500  # cells per section at which the error is measured


def choose_width(
    positions: Sequence[NDArray[np.floating]],
    values: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    *,
    generator: np.random.Generator,
) -> int:
    """Choose how many cells the local linear regression smooths over, from the sections themselves.

    Two errors are measured at a sample of cells: leaving out the cell (its own section is smoothed), and leaving out
    its whole section (its two neighbours are, weighted by distance in depth). The first is minimised by too narrow a
    window, since what sections do not share is fitted too; the second by too wide a one, since its gap is double. The
    geometric mean of the two is taken.

    Parameters
    ----------
    positions
        Cells of each section, (n_k, 2), sections in order of depth.
    values
        Expression of the same cells, (n_k, d), all d on one scale.
    depths
        Depth of each section, (K,).
    generator
        Chooses the cells at which the errors are measured.

    Returns
    -------
    Number of cells under the window.
    """
    probes = [generator.permutation(len(p))[:_N_PROBES] for p in positions]
    smallest = min(map(len, positions))
    candidates = [k for k in _CANDIDATES if k < smallest] or [smallest]
    if len(candidates) == 1:
        return candidates[0]
    by_cell, by_section = np.zeros(len(candidates)), np.zeros(len(candidates))
    for i, n_cells in enumerate(candidates):
        smooth = [LocalLinear(p, v, n_cells=n_cells) for p, v in zip(positions, values, strict=True)]
        for k, probe in enumerate(probes):
            query, truth = positions[k][probe], values[k][probe]
            by_cell[i] += ((smooth[k](query, skip_nearest=True).mean - truth) ** 2).mean()
            if 0 < k < len(positions) - 1:
                t = (depths[k] - depths[k - 1]) / (depths[k + 1] - depths[k - 1])
                mean = (1 - t) * smooth[k - 1](query).mean + t * smooth[k + 1](query).mean
                by_section[i] += ((mean - truth) ** 2).mean()
    narrow = _best(candidates, by_cell)
    wide = _best(candidates, by_section) if len(positions) > 2 else narrow
    return round(float(np.sqrt(narrow * wide)))


def _best(candidates: Sequence[int], error: NDArray[np.float64]) -> float:
    """Minimum of the error over log width, between candidates by the parabola through the lowest three."""
    i = int(error.argmin())
    if i in (0, len(candidates) - 1):
        return float(candidates[i])
    x = np.log(candidates[i - 1 : i + 2])
    curvature, slope, _ = np.polyfit(x, error[i - 1 : i + 2], 2)
    return float(np.exp(np.clip(-slope / (2 * curvature), x[0], x[2]))) if curvature > 0 else float(candidates[i])
