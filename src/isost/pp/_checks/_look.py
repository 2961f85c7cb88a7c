from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from isost.pp._matrix import read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["Finding", "Look", "Severity"]

Severity = Literal["error", "warning", "note"]

_MOST_CELLS = 2000  # of a section, looked at where not all are needed
_CELLS_FOR_GENES = 300  # of a section, by which genes are chosen
_MOST_GENES = 300  # those that vary most
_CONSTANT = 1e-12  # of the mean square: rounding


@dataclass(frozen=True)
class Finding:
    """Something about the sections that deserves a look.

    Attributes
    ----------
    severity
        ``"error"``: the sections cannot be used; ``"warning"``: the result is probably wrong; ``"note"``: good to know.
    section
        Name of the section; empty where it is about all.
    check
        What was looked at.
    number
        What was found, in the measure of the check.
    message
        What was found, in words.
    advice
        What to do about it.
    """

    severity: Severity
    section: str
    check: str
    number: float
    message: str
    advice: str


@dataclass(frozen=True)
class Look:
    """Sections in z order, as the checks look at them.

    Attributes
    ----------
    names
        Names of the K sections.
    z
        Their depths (K,), input units.
    given
        Depths in the order in which the sections were given (K,).
    places
        Positions x, y (n_k, 2) of each section, input units.
    genes
        Names of all genes of each section.
    expression
        Expression (n_k, g) of each section on the genes to use, dense or CSR; one that is lazy is read when asked for.
    genes_named
        Whether these were named, not all that the sections share.
    seed
        Seed of the choice of cells where not all are looked at.
    """

    names: Sequence[str]
    z: NDArray[np.float64]
    given: NDArray[np.float64]
    places: Sequence[NDArray[np.float64]]
    genes: Sequence[pd.Index]
    expression: Sequence[Any]
    genes_named: bool
    seed: int

    @classmethod
    def of(
        cls,
        sections: Mapping[str, AnnData],
        points: Mapping[str, NDArray[np.float64]],
        depths: Mapping[str, float],
        X: Any,
        *,
        genes_named: bool,
        seed: int,
    ) -> Look:
        """From sections in z order, their points and depths, in the order given, and the expression of all of them."""
        names = list(sections)
        return cls(
            names=names,
            z=np.array([depths[name] for name in names]),
            given=np.array(list(depths.values())),
            places=[points[name][:, :2] for name in names],
            genes=[sections[name].var_names for name in names],
            expression=_Expression(X, [section.n_obs for section in sections.values()]),
            genes_named=genes_named,
            seed=seed,
        )

    @cached_property
    def cells(self) -> list[NDArray[np.intp]]:
        """Rows of the cells looked at, at most 2,000 of each section, in random order."""
        random = np.random.default_rng(self.seed)
        return [random.permutation(len(places))[:_MOST_CELLS] for places in self.places]

    @cached_property
    def profiles(self) -> list[NDArray[np.float64]]:
        """Expression of these cells, of the at most 300 genes that vary most, in units of a gene's standard deviation.

        The standard deviation is that inside sections, pooled; genes without any are left out.
        """
        few = (X[rows[:_CELLS_FOR_GENES]] for X, rows in zip(self.expression, self.cells, strict=True))
        variance = np.mean([_variance(X) for X in few], axis=0)
        genes = np.sort(np.argsort(-variance, kind="stable")[:_MOST_GENES])
        chosen = [_dense(X[rows][:, genes]) for X, rows in zip(self.expression, self.cells, strict=True)]
        spread = np.mean([values.var(0) for values in chosen], axis=0)
        varies = spread > _CONSTANT * np.mean([(values**2).mean() for values in chosen])
        return [values[:, varies] / np.sqrt(spread[varies]) for values in chosen]

    @cached_property
    def widths(self) -> NDArray[np.float64]:
        """Larger extent (K,) of each section in x and y, input units."""
        return np.array([np.ptp(places, axis=0).max() for places in self.places])


class _Expression(Sequence[Any]):
    """Rows of each section, of expression (n, g) that is dense, CSR or of dask."""

    def __init__(self, X: Any, sizes: Sequence[int]) -> None:
        self._X, self._ends = X, np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, k: Any) -> Any:
        k = range(len(self))[k]
        return read_rows(self._X, slice(self._ends[k], self._ends[k + 1]))


def _variance(X: Any) -> NDArray[np.float64]:
    """Variance (g,) of every column, without making sparse values dense."""
    variance: NDArray[np.float64]
    if sp.issparse(X):
        mean, square = (np.ravel(part.mean(0)).astype(np.float64) for part in (X, X.multiply(X)))
        variance = square - mean**2
    else:
        variance = np.asarray(X, dtype=np.float64).var(axis=0)
    return variance


def _dense(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float64)
