from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from isost._keys import UNS
from isost._normalization import DEPTH, SPACE
from isost.generation import locate

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._inputs import Sections

__all__ = ["label_columns"]

_SHARED_OVER = 20  # measured cells around a place, in each of the two sections


def label_columns(
    stack: AnnData, sections: Sections, donor: NDArray[np.intp], place: NDArray[np.float64]
) -> pd.DataFrame:
    """Categorical columns of the cells carried here, and how common each label is among the measured cells around.

    The share of a label at fraction t of a gap is 1 − t times that among the nearest cells of the lower section plus t
    times that of the upper one.

    Parameters
    ----------
    stack
        The stack, whose categorical `obs` columns are carried over, but for the name of the section.
    sections
        Its arrays.
    donor
        Row of the stack that each cell comes from, (n,).
    place
        Where the cells are, (n, 3), input units.
    """
    section_key = stack.uns[UNS]["params"]["section_key"]
    columns = [
        name
        for name, values in stack.obs.items()
        if isinstance(values.dtype, pd.CategoricalDtype) and name != section_key
    ]
    labels: pd.DataFrame = stack.obs[columns].iloc[donor].reset_index(drop=True)
    if not columns:
        return labels
    around, weights = _around(sections, place)
    for name in columns:
        codes = stack.obs[name].cat.codes.to_numpy()
        same = codes[around] == codes[donor][:, None]
        share = np.minimum((same * weights).sum(1), 1.0)  # rounding may pass 1
        labels[f"{name}_probability"] = np.where(codes[donor] >= 0, share, np.nan)
    return labels


def _around(sections: Sections, place: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows of the stack of the nearest cells in the sections below and above each place, and weights that sum to 1."""
    stack = sections.stack
    state = stack.normalization.encode(place, dims=SPACE)
    depths = stack.normalization.encode(place[:, 2:], dims=DEPTH)[:, 0]
    k = min(_SHARED_OVER, int(stack.sizes.min()))
    rows, weights = np.empty((len(place), 2 * k), dtype=np.intp), np.empty((len(place), 2 * k))
    where = {depth: locate(stack.depths, depth) for depth in np.unique(depths)}
    gaps = np.array([where[depth].gap for depth in depths])
    fraction = np.array([where[depth].fraction for depth in depths])
    for gap in np.unique(gaps):
        here = gaps == gap
        for side, section in enumerate((gap, gap + 1)):
            columns = slice(side * k, (side + 1) * k)
            nearest = cKDTree(sections.positions[section]).query(state[here, :2], np.arange(1, k + 1))[1]
            rows[here, columns] = stack.offsets[section] + nearest
            weights[here, columns] = (fraction if side else 1 - fraction)[here, None] / k
    return rows, weights
