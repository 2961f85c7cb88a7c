from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from isost.pp import read_rows
from isost.volume import decode

from ._inputs import dense

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isost.generation import Expected


__all__ = ["gene_variance", "spread_around"]

_SHRUNK_BY = 0.1  # weight of the mean over all places in the variance of cells around one


def spread_around(X: Any, weights: sp.csr_array) -> NDArray[np.float64]:
    """Variance of each gene among the cells around each place, (n, genes), drawn a little towards its mean over places.

    Parameters
    ----------
    X
        Expression of the stack (cells, genes), dense, sparse or lazy.
    weights
        Weights of the cells around each place (n, cells), see `Surroundings`.
    """
    cells = np.unique(weights.indices)
    near, average = read_rows(X, cells), weights[:, cells]
    squares = near.multiply(near) if sp.issparse(near) else np.square(near, dtype=np.float64)
    mean, mean_square = (dense(average @ values) for values in (near, squares))
    # of a weighted sample, unbiased
    effective = 1 - np.asarray(average.power(2).sum(axis=1)).reshape(-1, 1)
    spread = np.maximum(mean_square - mean**2, 0) / np.maximum(effective, np.finfo(np.float64).tiny)
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
