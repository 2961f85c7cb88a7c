from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from isost._checks import layer_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = [
    "gene_range",
    "is_integer_valued",
    "is_lazy",
    "is_sparse",
    "join_expression",
    "lazy_expression",
    "read_expression",
    "read_rows",
    "row_blocks",
]

BLOCK = 4096  # rows made float64 (and dense) at once


def is_sparse(X: Any) -> bool:
    """Whether `X` is a sparse matrix or array of scipy."""
    return bool(sparse.issparse(X))


def read_expression(name: str, section: AnnData, genes: pd.Index, *, layer: str | None) -> Any:
    """Read one section's expression of `genes` into memory.

    Parameters
    ----------
    name
        The section's name, for messages.
    section
        The section; it may be backed by a file or by dask.
    genes
        Names of the genes, in the order wanted.
    layer
        Layer to read; X if None.

    Returns
    -------
    (n, genes), a dense array or a CSR matrix.

    Raises
    ------
    KeyError
        If there is no such layer, or no X.
    ValueError
        If a value is NaN or infinite.
    """
    chosen = section if genes.equals(section.var_names) else section[:, genes]
    values = _computed(_matrix(name, chosen, layer=layer))
    if hasattr(values, "to_memory"):  # sparse, in a file
        values = values.to_memory()
    values = sparse.csr_matrix(values) if is_sparse(values) else np.asarray(values)
    if not np.isfinite(_stored(values)).all():
        msg = f"expression of section {name!r} has NaN or infinite values; drop these points or genes, or fill them"
        raise ValueError(msg)
    return values


def lazy_expression(sections: Mapping[str, AnnData], genes: pd.Index, *, layer: str | None) -> Any:
    """Expression of all sections as a dask array, a chunk for each, which is read when it is computed.

    Parameters
    ----------
    sections
        Section name to section, in the order of the rows.
    genes, layer
        As those of `read_expression`.

    Returns
    -------
    (n, genes); chunks are CSR matrices if any section's expression is sparse, as `join_expression` has it.
    """
    import dask.array as da
    from dask.delayed import delayed

    # one by one: of a view in a file, this reads it
    kinds = [_kind(_matrix(name, section, layer=layer)) for name, section in sections.items()]
    begun: Any = np.empty((0, len(genes)), np.result_type(*[dtype for dtype, _ in kinds]))
    if any(sparsely for _, sparsely in kinds):
        begun = sparse.csr_matrix(begun)

    def read(name: str) -> Any:
        return join_expression([begun, read_expression(name, sections[name], genes, layer=layer)])

    chunks = [
        da.from_delayed(delayed(read, pure=False)(name), (section.n_obs, len(genes)), meta=begun)
        for name, section in sections.items()
    ]
    return da.concatenate(chunks)


def _matrix(name: str, section: AnnData, *, layer: str | None) -> Any:
    """Expression of a section as it is kept: in memory, in a file or by dask."""
    if layer is not None and layer not in section.layers:
        msg = f"section {name!r} has no layer {layer!r} (it has {layer_names(section)})"
        raise KeyError(msg)
    values = section.X if layer is None else section.layers[layer]
    if values is None:
        msg = f"section {name!r} has no X; pass layer= (it has {layer_names(section)})"
        raise KeyError(msg)
    return values


def _kind(values: Any) -> tuple[np.dtype, bool]:
    """Type of the numbers, and whether they are sparse: of dask, in memory or in a file."""
    return values.dtype, is_sparse(getattr(values, "_meta", values)) or hasattr(values, "to_memory")


def is_lazy(X: Any) -> bool:
    """Whether `X` is an array of dask, to be read when it is computed."""
    return hasattr(X, "compute")


def _computed(values: Any) -> Any:
    """Read what is lazy; one chunk after another, so that no more than one is held."""
    return values.compute(scheduler="synchronous") if is_lazy(values) else values


def read_rows(X: Any, rows: Any) -> Any:
    """Take some rows of expression into memory; of lazy expression only the chunks that hold them are read.

    Parameters
    ----------
    X
        Expression (n, genes): dense, CSR or of dask.
    rows
        A slice or indices.
    """
    return _computed(X[rows])


def row_blocks(X: Any) -> Iterator[Any]:
    """Go through expression (n, genes) in order, some thousand rows at a time; lazy expression is read by chunks."""
    chunks = (_computed(X.blocks[i]) for i in range(X.numblocks[0])) if is_lazy(X) else (X,)
    for chunk in chunks:
        for start in range(0, chunk.shape[0], BLOCK):
            yield chunk[start : start + BLOCK]


def gene_range(X: Any) -> NDArray[Any]:
    """Find the least and the largest value of every gene (2, genes), of the type of the expression (n, genes)."""
    ends = [[block.min(axis=0), block.max(axis=0)] for block in row_blocks(X)]
    low, high = ([np.ravel(v.toarray() if is_sparse(v) else v) for v in part] for part in zip(*ends, strict=True))
    return np.stack([np.min(low, axis=0), np.max(high, axis=0)])


def _stored(values: Any) -> NDArray[Any]:
    stored: NDArray[Any] = values.data if is_sparse(values) else values
    return stored


def is_integer_valued(values: Any) -> bool:
    """Whether all values are whole numbers, as raw counts are."""
    stored = _stored(values)
    # most of the answer costs nothing: the first few values of log-normalised expression are not whole
    return all(bool((part == np.rint(part)).all()) for part in (stored[:100], stored))


def join_expression(parts: Sequence[Any]) -> Any:
    """Rows of all sections; sparse if any section's are."""
    if any(is_sparse(part) for part in parts):
        joined = sparse.vstack([sparse.csr_matrix(part) for part in parts], format="csr")
        joined.sum_duplicates()  # entries stored twice would count twice in the variance
        return joined
    return np.concatenate(parts)
