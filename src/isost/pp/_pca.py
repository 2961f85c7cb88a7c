from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, sparse

from isost._logging import logger

from ._matrix import is_lazy, is_sparse, row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GenePCA", "mean_and_scale"]

MANY_GENES = 2000  # above this the genes × genes covariance costs more than a few leading singular vectors
MOST_GENES = 12_000  # of lazy expression, which would have to be read anew for each of many steps: 1.2 GB of covariance


@dataclass(frozen=True)
class GenePCA:
    """Principal components of z-scored expression: ``X ≈ mean + scale · (scores @ loadings.T)``.

    Attributes
    ----------
    loadings
        Orthonormal columns (genes, G), each signed so that its entry of largest magnitude is positive.
    mean
        Mean of every gene (genes,).
    scale
        Standard deviation (of the population) of every gene (genes,), 1 for a gene that does not vary.
    """

    loadings: NDArray[np.float32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, X: Any, *, n_comps: int = 50, seed: int = 0) -> GenePCA:
        """Fit to all points at once.

        Sparse expression never becomes dense as a whole, and lazy expression is read twice, one chunk at a time.

        Parameters
        ----------
        X
            Expression (n, genes): a dense array, a CSR matrix, or a dask array of either.
        n_comps
            Number G of components; at most ``min(genes, n - 1)`` are taken.
        seed
            Starts the iteration that finds the components where there are more than 2000 genes.

        Returns
        -------
        The components.

        Raises
        ------
        ValueError
            If no gene varies, or lazy expression has more than 12,000 genes.
        """
        n, n_genes = X.shape
        if is_lazy(X) and n_genes > MOST_GENES:
            msg = (
                f"lazy expression may have {MOST_GENES:,} genes at most, not {n_genes:,}: choose some by genes=, such "
                f"as highly variable ones, or leave lazy out"
            )
            raise ValueError(msg)
        possible = min(n_comps, n_genes, n - 1)
        if possible < n_comps:
            logger.info("%d components instead of %d: %d points, %d genes", possible, n_comps, n, n_genes)
        mean, scale = mean_and_scale(X)
        if n_genes > MANY_GENES and possible < n_genes and not is_lazy(X):
            loadings = _iterated(X, mean, scale, n_comps=possible, seed=seed)
        else:
            loadings = _from_covariance(X, mean, scale, n_comps=possible)
        largest = np.abs(loadings).argmax(axis=0)
        loadings = loadings * np.where(loadings[largest, np.arange(possible)] < 0, -1, 1)
        return cls(loadings.astype(np.float32), mean, scale)

    def scores(self, X: Any) -> NDArray[np.float64]:
        """Components (n, G) of expression `X` (n, genes), as that of `fit`."""
        weights = self.loadings.astype(np.float64) / self.scale[:, None]
        found = [np.empty((0, weights.shape[1])), *(np.asarray(block @ weights) for block in row_blocks(X))]
        return np.concatenate(found) - self.mean @ weights


def mean_and_scale(X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of every gene, in float64; 1 where it does not vary, ValueError where none does."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=False)
    for block in row_blocks(X):
        scaler.partial_fit(block.astype(np.float64))
    # the scaler puts 1 where a variance is nothing but rounding
    if (scaler.scale_ != np.sqrt(scaler.var_)).all():
        msg = "expression is the same at all points, for every gene; is X or layer= the right one?"
        raise ValueError(msg)
    return np.asarray(scaler.mean_), np.asarray(scaler.scale_)


def _from_covariance(
    X: Any, mean: NDArray[np.float64], scale: NDArray[np.float64], *, n_comps: int
) -> NDArray[np.float64]:
    """Leading eigenvectors (genes, G) of the covariance of z-scores, which are dense one block of rows at a time."""
    n_genes = len(mean)
    covariance = np.zeros((n_genes, n_genes))
    for block in row_blocks(X):
        Z = ((block.toarray() if is_sparse(block) else block) - mean) / scale
        covariance += Z.T @ Z
    vectors: NDArray[np.float64] = linalg.eigh(covariance, subset_by_index=[n_genes - n_comps, n_genes - 1])[1]
    return vectors[:, ::-1]


def _iterated(
    X: Any, mean: NDArray[np.float64], scale: NDArray[np.float64], *, n_comps: int, seed: int
) -> NDArray[Any]:
    """Leading right singular vectors (genes, G) of the z-scores, without their covariance."""
    from sklearn.decomposition import PCA

    dtype = np.result_type(X.dtype, np.float32)
    if is_sparse(X):
        # only divided: PCA centres sparse values without making them dense
        data = (X.data / scale[X.indices]).astype(dtype)
        scaled = sparse.csr_matrix((data, X.indices, X.indptr), shape=X.shape)
    else:
        scaled = (X - mean.astype(dtype)) / scale.astype(dtype)
    pca = PCA(n_comps, svd_solver="arpack", copy=False, random_state=seed).fit(scaled)
    loadings: NDArray[Any] = pca.components_.T
    return loadings
