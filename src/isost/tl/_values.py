from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from isost import _keys as keys

from ._labels import OWN_COLUMNS, categorical_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import scipy.sparse as sp
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["CarriedValues"]

_OWN_ARRAYS = {keys.SPATIAL, keys.PLANE, keys.STATE}


class CarriedValues:
    """Numbers of the stack that go with the cells carried elsewhere: each cell's own, and those expected around it.

    Parameters
    ----------
    stack
        The stack.
    obs
        Numeric columns of its `obs`; none when None.
    obsm
        Numeric arrays of its `obsm`; none when None.

    Raises
    ------
    KeyError
        If there is no such column or array.
    ValueError
        If one is not numeric, or a name would be written twice.
    TypeError
        If a list of names is one name.
    """

    def __init__(self, stack: AnnData, *, obs: Sequence[str] | None, obsm: Sequence[str] | None) -> None:
        labels = categorical_columns(stack)
        taken = OWN_COLUMNS | {*labels, *(f"{name}_probability" for name in labels)}
        self._columns: pd.DataFrame = stack.obs[_checked("obs", obs, stack.obs, taken)]
        self._arrays = {name: stack.obsm[name] for name in _checked("obsm", obsm, stack.obsm, _OWN_ARRAYS)}

    def columns(self, around: sp.csr_array, donor: NDArray[np.intp]) -> pd.DataFrame:
        """Columns of `obs`: own values and expected ones.

        Parameters
        ----------
        around
            Weights of the stack's cells around each place, (n, cells), see `Surroundings`.
        donor
            Row of the stack that each cell comes from, (n,).
        """
        own = self._columns.iloc[donor].reset_index(drop=True)
        numbers = {name: column.to_numpy(np.float64, na_value=np.nan) for name, column in self._columns.items()}
        return own.assign(**{f"{name}_mean": _expected(around, values) for name, values in numbers.items()})

    def arrays(self, around: sp.csr_array, donor: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Arrays of `obsm`: own values and expected ones; parameters as those of `columns`."""
        own = {name: array[donor] for name, array in self._arrays.items()}
        return own | {f"{name}_mean": _expected(around, array) for name, array in self._arrays.items()}


def _checked(field: str, names: Sequence[str] | None, given: Any, taken: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        msg = f"{field} must be a list of names, got the one name {names!r}; pass {field}=[{names!r}]"
        raise TypeError(msg)
    taken, wanted = set(taken), [] if names is None else list(names)
    for name in wanted:
        if name not in given:
            msg = f"{field}= names {name!r}, which the stack's {field} lacks; it has {list(given)}"
            raise KeyError(msg)
        if not _is_numeric(given[name]):
            msg = f"{field}[{name!r}] is not numeric; categorical columns of obs are carried over without being named"
            raise ValueError(msg)
        written = (name, f"{name}_mean")
        if twice := taken.intersection(written):
            msg = f"{field}= names {name!r}, but {field}[{twice.pop()!r}] is written already; rename it in the stack"
            raise ValueError(msg)
        taken.update(written)
    return wanted


def _is_numeric(values: Any) -> bool:
    if isinstance(values, pd.Series):
        return pd.api.types.is_numeric_dtype(values)
    return isinstance(values, np.ndarray) and (values.dtype.kind in "biuf")


def _expected(around: sp.csr_array, values: NDArray[Any]) -> NDArray[np.float64]:
    """Mean (n, …) of the cells around each place, of those with a value; NaN where none has one."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    known = ~np.isnan(flat)
    weight = around @ known.astype(np.float64)
    total = around @ np.where(known, flat, 0.0)
    mean: NDArray[np.float64] = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean.reshape(len(mean), *values.shape[1:])
