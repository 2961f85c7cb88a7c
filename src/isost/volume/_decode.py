from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["decode", "decoded_bytes"]

_BLOCK_BYTES = 32 * 2**20


def decode(
    pcs: ArrayLike,
    loadings: ArrayLike,
    gene_mean: ArrayLike,
    gene_scale: ArrayLike,
    *,
    genes: ArrayLike | None = None,
    lazy: bool = False,
    block_rows: int | None = None,
) -> Any:
    """Expression of genes from principal components: ``(pcs · loadingsᵀ) · gene_scale + gene_mean``.

    Linear and nothing else: values are not clipped, so any gene can be decoded later from the same components and
    agree with what was decoded now. Sums are in float64 and rounded once.

    Parameters
    ----------
    pcs
        Components of each row, shape (n, G); with `lazy` they may be a dask array.
    loadings
        Share of each gene in each component, shape (n_genes, G).
    gene_mean, gene_scale
        Mean and scale of each gene before the z-score, shape (n_genes,), units of the input's expression.
    genes
        Positions of the genes to decode, or a boolean mask over all; by default all.
    lazy
        Return a dask array that decodes block by block when asked, equal to what would be returned at once.
    block_rows
        Rows decoded at a time; by default as many as fill 32 MiB.

    Returns
    -------
    Expression float32, shape (n, number of genes), on the input's scale.

    Raises
    ------
    ValueError
        If shapes disagree or `block_rows` is not positive.
    """
    components: Any = pcs if lazy else np.asarray(pcs)
    shares = np.asarray(loadings, dtype=np.float64)
    mean, scale = np.asarray(gene_mean, dtype=np.float64), np.asarray(gene_scale, dtype=np.float64)
    _check_shapes(components, shares, mean, scale)
    if genes is not None:
        chosen = np.asarray(genes)
        shares, mean, scale = shares[chosen], mean[chosen], scale[chosen]
    scaled = (shares * scale[:, None]).T
    rows = _rows_per_block(len(mean)) if block_rows is None else block_rows
    if rows < 1:
        msg = f"block_rows must be positive, got {block_rows}"
        raise ValueError(msg)
    if lazy:
        return _decode_lazily(components, scaled, mean, rows)
    out = np.empty((len(components), len(mean)), dtype=np.float32)
    for start in range(0, len(components), rows):
        out[start : start + rows] = _decode_block(components[start : start + rows], scaled, mean)
    return out


def decoded_bytes(n: int, n_genes: int) -> int:
    """Count the bytes of memory that `n` rows of `n_genes` genes take once decoded."""
    return n * n_genes * np.dtype(np.float32).itemsize


def _decode_block(pcs: NDArray, scaled: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float32]:
    expression = pcs.astype(np.float64) @ scaled
    expression += mean
    return expression.astype(np.float32)


def _decode_lazily(pcs: Any, scaled: NDArray[np.float64], mean: NDArray[np.float64], rows: int) -> Any:
    import dask.array as da

    blocks = da.asarray(pcs).rechunk((rows, -1))
    chunks = (blocks.chunks[0], (len(mean),))
    meta = np.empty((0, 0), dtype=np.float32)
    return blocks.map_blocks(_decode_block, scaled, mean, dtype=np.float32, chunks=chunks, meta=meta)


def _rows_per_block(n_genes: int) -> int:
    # A block is held in float64 while it is summed.
    return max(1, _BLOCK_BYTES // (8 * max(1, n_genes)))


def _check_shapes(pcs: Any, loadings: NDArray, mean: NDArray, scale: NDArray) -> None:
    n_genes, n_comps = loadings.shape
    if pcs.ndim != 2 or pcs.shape[1] != n_comps:
        msg = f"pcs must have shape (n, {n_comps}) to match the loadings, got {pcs.shape}"
        raise ValueError(msg)
    if mean.shape != (n_genes,) or scale.shape != (n_genes,):
        msg = f"gene_mean and gene_scale must have shape ({n_genes},), got {mean.shape} and {scale.shape}"
        raise ValueError(msg)
