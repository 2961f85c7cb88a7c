from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from isost._untrusted import untrusted
from isost.volume import decode

from ._tensors import read_arrays, write_arrays

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["LinearPCA", "convert_pca", "read_genes", "read_mean_sd"]

_ARRAYS = ("loadings", "gene_mean", "gene_scale")
_ORTHONORMAL = 1e-3


@dataclass(frozen=True)
class LinearPCA:
    """A PCA as plain arrays: expression = (PCs · loadingsᵀ) · gene_scale + gene_mean.

    Attributes
    ----------
    loadings
        (genes, G).
    gene_mean, gene_scale
        (genes,), on the scale of what the PCA was fitted to, or, where it stood behind a scaler, of what that was.
    genes
        Names of the genes, where they are known.
    """

    loadings: NDArray[np.float64]
    gene_mean: NDArray[np.float64]
    gene_scale: NDArray[np.float64]
    genes: tuple[str, ...] | None = None

    @property
    def is_orthonormal(self) -> bool:
        """Whether the loadings are: not so where the PCA was whitened."""
        gram = self.loadings.T @ self.loadings
        return bool(np.abs(gram - np.eye(len(gram))).max() < _ORTHONORMAL)

    def inverse_transform(self, pcs: ArrayLike) -> NDArray[np.float32]:
        """Expression (n, genes) float32 of components (n, G)."""
        found: NDArray[np.float32] = decode(np.asarray(pcs), self.loadings, self.gene_mean, self.gene_scale)
        return found

    def unscaled(self, mean: ArrayLike, sd: ArrayLike) -> LinearPCA:
        """Undo a z-score that came before the PCA: values · sd + mean, of every gene (genes,)."""
        scale = np.asarray(sd, np.float64)
        return replace(
            self, gene_mean=self.gene_mean * scale + np.asarray(mean, np.float64), gene_scale=self.gene_scale * scale
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the arrays to an ``.npz`` file."""
        names = {} if self.genes is None else {"genes": np.array(self.genes, dtype=str)}
        write_arrays(path, {name: getattr(self, name) for name in _ARRAYS} | names)


def convert_pca(
    pca: Any, out: str | os.PathLike[str] | None = None, *, genes: Sequence[str] | None = None, trusted: bool = False
) -> LinearPCA:
    """Turn the PCA of the published program into plain arrays, once.

    Parameters
    ----------
    pca
        Its joblib pickle, such as ``zscore_pc_model.pkl``; a fitted scikit-learn PCA, or a Pipeline of a StandardScaler
        and a PCA; or an ``.npz`` file written here.
    out
        An ``.npz`` file to write, which loads without running anything.
    genes
        Names of its genes, kept with it.
    trusted
        Load a pickle. A pickle can run any program while it loads: say so only of files whose origin you trust.

    Returns
    -------
    The arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileExistsError
        If `out` exists.
    ValueError
        If a pickle is not trusted, or this is no such PCA.

    Examples
    --------
    >>> pca = isost.compat.convert_pca("zscore_pc_model.pkl", "pca.npz", trusted=True)
    """
    if out is not None and Path(out).exists():
        msg = f"{out} exists: delete it, or choose another name"
        raise FileExistsError(msg)
    found = _read(pca, trusted=trusted) if isinstance(pca, str | Path) else _as_arrays(pca, type(pca).__name__)
    if genes is not None:
        if len(genes) != len(found.loadings):
            msg = f"the PCA has {len(found.loadings)} genes, and {len(genes)} names were given"
            raise ValueError(msg)
        found = replace(found, genes=tuple(map(str, genes)))
    if out is not None:
        found.save(out)
    return found


def _read(path: str | Path, *, trusted: bool) -> LinearPCA:
    if not Path(path).is_file():
        msg = f"there is no PCA {path}"
        raise FileNotFoundError(msg)
    if Path(path).suffix == ".npz":
        return _read_arrays(path)
    if not trusted:
        msg = (
            f"{path} is a pickle, which can run any program while it loads. If you trust where it comes from, turn it "
            f"into plain arrays once: isost.compat.convert_pca({str(path)!r}, 'pca.npz', trusted=True)"
        )
        raise ValueError(msg)
    import joblib

    return _as_arrays(joblib.load(path), str(path))


def _read_arrays(path: str | Path) -> LinearPCA:
    try:
        file = read_arrays(path)
        arrays = {name: np.asarray(file[name], np.float64) for name in _ARRAYS}
        genes = tuple(map(str, file["genes"])) if "genes" in file else None
        n_genes = len(arrays["loadings"])
        if arrays["loadings"].ndim != 2 or any(arrays[name].shape != (n_genes,) for name in _ARRAYS[1:]):
            raise ValueError("the shapes of its arrays do not fit")
        if not all(np.isfinite(array).all() for array in arrays.values()) or (genes and len(genes) != n_genes):
            raise ValueError("its numbers are not finite, or its genes not as many")
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path} holds no PCA that isost.compat.convert_pca wrote: {error}"
        raise ValueError(msg) from error
    return LinearPCA(**arrays, genes=genes)


def _as_arrays(model: Any, what: str) -> LinearPCA:
    """Fold what a fitted estimator does on the way back into one linear map."""
    if isinstance(model, LinearPCA):
        return model
    steps = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    pca, scalers = steps[-1], [step for step in steps[:-1] if step not in (None, "passthrough")]
    fitted = all(hasattr(scaler, "scale_") and hasattr(scaler, "with_std") for scaler in scalers)
    if not hasattr(pca, "components_") or len(scalers) > 1 or not fitted:
        msg = f"{what} is neither a fitted PCA nor a Pipeline of a StandardScaler and a PCA"
        raise ValueError(msg)
    loadings = np.asarray(pca.components_, np.float64).T
    if getattr(pca, "whiten", False):
        loadings = loadings * np.sqrt(np.asarray(pca.explained_variance_, np.float64))
    mean = getattr(pca, "mean_", None)
    zeros, ones = np.zeros(len(loadings)), np.ones(len(loadings))
    names = getattr(steps[0], "feature_names_in_", None)
    plain = LinearPCA(
        loadings,
        zeros if mean is None else np.asarray(mean, np.float64),
        ones,
        None if names is None else tuple(map(str, names)),
    )
    for scaler in scalers:
        shift = scaler.mean_ if getattr(scaler, "with_mean", False) else zeros
        plain = plain.unscaled(shift, ones if scaler.scale_ is None else scaler.scale_)
    return plain


def read_genes(path: str | os.PathLike[str]) -> list[str]:
    """Read the genes of a ``gene.csv``, from its column ``gene_symbol``, or ``gene`` as some sets have it."""
    if not Path(path).is_file():
        msg = f"there is no list of genes {path}"
        raise FileNotFoundError(msg)
    with untrusted(path):
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
    for column in ("gene_symbol", "gene"):
        if column in table:
            return list(table[column])
    msg = f"{path} has no column gene_symbol; it has {list(table.columns)}"
    raise ValueError(msg)


def read_mean_sd(path: str | os.PathLike[str], genes: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read mean and standard deviation of some genes, (genes,) each, from a table with the columns mean and sd.

    Its genes are in the column ``gene_symbol`` or ``gene``, or the first one.
    """
    if not Path(path).is_file():
        msg = f"there is no table of means and standard deviations {path}"
        raise FileNotFoundError(msg)
    with untrusted(path):
        return _mean_sd(path, pd.read_csv(path, keep_default_na=False, dtype=str), genes)


def _mean_sd(
    path: str | os.PathLike[str], table: pd.DataFrame, genes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = [column for column in ("gene_symbol", "gene") if column in table]
    table = table.set_index(known[0] if known else table.columns[0])
    table = table.rename(columns={"std": "sd"})
    if lacking := [column for column in ("mean", "sd") if column not in table]:
        msg = f"{path} lacks the column {', '.join(lacking)}; it has {list(table.columns)}"
        raise ValueError(msg)
    if missing := [gene for gene in genes if gene not in table.index]:
        msg = f"{path} lacks {len(missing)} of {len(genes)} genes, such as {missing[0]!r}"
        raise ValueError(msg)
    if not table.index.is_unique:
        msg = f"{path} names gene {table.index[table.index.duplicated()][0]!r} twice"
        raise ValueError(msg)
    chosen = table.loc[list(genes), ["mean", "sd"]].to_numpy(object).astype(np.float64)
    if not np.isfinite(chosen).all() or (chosen[:, 1] < 0).any():
        msg = f"{path} must hold finite means and standard deviations, none negative"
        raise ValueError(msg)
    return chosen[:, 0], chosen[:, 1]
