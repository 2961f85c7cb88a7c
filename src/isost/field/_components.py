from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["complementary_components"]

_MANY_GENES = 2000  # above this the covariance of all genes costs more than a few leading vectors


def complementary_components(
    smoothed: NDArray[np.floating], loadings: NDArray[np.floating], *, n_comps: int, seed: int = 0
) -> NDArray[np.float64]:
    """Components of what is spatial in the genes and not in the principal components they have.

    Principal components hold the most variance, most of which differs from cell to cell without any pattern. Of
    expression averaged over neighbouring cells, the variance is spatial: its leading components, orthogonal to the ones
    there are, let the expected expression of every gene be decoded, not only of those that dominate the variance.

    Parameters
    ----------
    smoothed
        z-scored expression averaged over the neighbours of some cells (m, genes).
    loadings
        Orthonormal columns (genes, G) that there are already.
    n_comps
        Components wanted; at most as many as genes are left.
    seed
        Starts the search where there are more than 2000 genes.

    Returns
    -------
    Orthonormal columns (genes, at most n_comps), orthogonal to `loadings`.
    """
    basis = np.asarray(loadings, dtype=np.float64)
    n_genes, n_known = basis.shape
    n_comps = min(n_comps, n_genes - n_known)
    if n_comps < 1:
        return np.empty((n_genes, 0))
    centred = np.asarray(smoothed, dtype=np.float64) - np.mean(smoothed, axis=0, dtype=np.float64)
    if n_genes > _MANY_GENES:
        from sklearn.utils.extmath import randomized_svd

        residual = centred - (centred @ basis) @ basis.T
        n_comps = min(n_comps, len(residual) - 1)
        found = randomized_svd(residual, n_comps, random_state=seed)[2].T
        # rounding may leave a trace of the known ones
        columns: NDArray[np.float64] = np.linalg.qr(found - basis @ (basis.T @ found))[0]
        return columns
    complement = linalg.null_space(basis.T)
    left = centred @ complement
    vectors = linalg.eigh(left.T @ left)[1][:, ::-1][:, :n_comps]
    rotated: NDArray[np.float64] = complement @ vectors
    return rotated
