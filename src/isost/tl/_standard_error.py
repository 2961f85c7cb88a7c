from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from isost.volume import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isost.generation import Expected

    from ._inputs import Sections

__all__ = ["around", "gene_variance", "spread_around"]

_N_AROUND = 20  # measured cells around a place, in each section
_SHRUNK_BY = 0.1  # weight of the mean over all places in the variance of cells around one


def around(
    sections: Sections, ends: tuple[int, int], fraction: float, places: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows of the stack of the measured cells nearest to places (n, 2), state units, and their weights, both (n, k).

    Cells of the lower section share the weight 1 − `fraction`, those of the upper one `fraction`; at a section its own
    cells are all there are.
    """
    rows, weights = [], []
    for section, share in zip(ends, (1 - fraction, fraction), strict=True):
        if share > 0:
            positions = sections.positions[section]
            nearest = cKDTree(positions).query(places, np.arange(1, min(_N_AROUND, len(positions)) + 1))[1]
            rows.append(sections.stack.offsets[section] + nearest)
            weights.append(np.full(nearest.shape, share / nearest.shape[1]))
    return np.concatenate(rows, axis=1), np.concatenate(weights, axis=1)


def spread_around(X: Any, rows: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of each gene among the cells around each place, (n, genes), drawn a little towards its mean over places.

    Parameters
    ----------
    X
        Expression of the stack (cells, genes), dense or sparse.
    rows, weights
        What `around` found.
    """
    cells, columns = np.unique(rows, return_inverse=True)
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    average = sp.csr_array((weights.ravel(), columns.ravel(), starts), shape=(len(rows), len(cells)))
    near = X[cells]
    squares = near.multiply(near) if sp.issparse(near) else np.square(near, dtype=np.float64)
    mean, mean_square = (_dense(average @ values) for values in (near, squares))
    # of a weighted sample, unbiased
    spread = np.maximum(mean_square - mean**2, 0) / (1 - (weights**2).sum(1, keepdims=True))
    drawn: NDArray[np.float64] = (spread + _SHRUNK_BY * spread.mean(0)) / (1 + _SHRUNK_BY)
    return drawn


def gene_variance(
    expected: Expected,
    spread: NDArray[np.float64],
    loadings: NDArray[np.floating],
    gene_scale: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the expected expression of each gene: of its estimate, and of what may happen between sections.

    As in `isost.generation.Expectation`, but with the variance of the gene among the cells around each place instead
    of one for all places: where a gene is silent, little can go wrong.

    Parameters
    ----------
    expected
        Expected components at some places, all at one depth.
    spread
        Variance of each gene among the cells around them (n, genes), see `spread_around`.
    loadings, gene_scale
        Of the genes (genes, C) and (genes,).

    Returns
    -------
    Both parts (n, genes); the second is for a gap variance of 1.
    """
    sampling = expected.leverage[:, None] * spread
    if not expected.bridge:
        return sampling, np.zeros_like(sampling)
    apart = decode(expected.apart, loadings, np.zeros_like(gene_scale), gene_scale).astype(np.float64)
    difference = apart**2 - expected.apart_leverage[:, None] * spread
    return sampling, expected.bridge * (np.maximum(difference, 0) + np.maximum(difference.mean(0), 0)) / 2


def _dense(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float64)
