from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["is_integer_valued", "is_sparse", "join_expression", "read_expression"]


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
    if layer is not None and layer not in section.layers:
        msg = f"section {name!r} has no layer {layer!r} (it has {list(section.layers.keys())})"
        raise KeyError(msg)
    chosen = section if genes.equals(section.var_names) else section[:, genes]
    if chosen.isbacked:
        chosen = chosen.to_memory()
    values = chosen.X if layer is None else chosen.layers[layer]
    if values is None:
        msg = f"section {name!r} has no X; pass layer= (it has {list(section.layers.keys())})"
        raise KeyError(msg)
    if hasattr(values, "compute"):
        values = values.compute()
    values = sparse.csr_matrix(values) if is_sparse(values) else np.asarray(values)
    if not np.isfinite(_stored(values)).all():
        msg = f"expression of section {name!r} has NaN or infinite values; drop these points or genes, or fill them"
        raise ValueError(msg)
    return values


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
