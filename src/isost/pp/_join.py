from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from isost._logging import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

__all__ = ["join_colors", "join_obs", "join_obsm", "join_var"]


def join_obs(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of all sections, with all their columns.

    A column that is categorical wherever it occurs stays so, with all sections' categories. Row names are prefixed by
    ``"<section>-"`` when two sections share one.

    Parameters
    ----------
    frames
        Section name to its `obs`.

    Returns
    -------
    One table.
    """
    columns = pd.Index([]).append([frame.columns for frame in frames.values()]).unique()
    shared_types = {column: _shared_type(column, frames.values()) for column in columns}
    typed = [
        frame.astype({column: kind for column, kind in shared_types.items() if kind is not None and column in frame})
        for frame in frames.values()
    ]
    obs = pd.concat(typed, join="outer")
    # where a section lacks a column, pandas forgets what the others agreed on
    obs = obs.astype({column: kind for column, kind in shared_types.items() if kind is not None})
    obs.index = _row_names(frames)
    return obs


def _shared_type(column: Any, frames: Any) -> Any:
    """Type that holds what all sections have in `column`, where pandas would not find it; else None."""
    having = [frame[column].dtype for frame in frames if column in frame]
    if all(isinstance(kind, pd.CategoricalDtype) for kind in having):
        categories = pd.Index([]).append([kind.categories for kind in having]).unique()
        ordered = all(kind.ordered and kind.categories.equals(categories) for kind in having)
        return pd.CategoricalDtype(categories, ordered=ordered)
    if len(having) < len(frames) and all(pd.api.types.is_bool_dtype(kind) for kind in having):
        return pd.BooleanDtype()
    return None


def _row_names(frames: Mapping[str, pd.DataFrame]) -> pd.Index:
    from anndata.utils import make_index_unique

    names: pd.Index = pd.Index(np.concatenate([frame.index.astype(str) for frame in frames.values()]))
    if names.is_unique:
        return names
    prefixed: pd.Index = pd.Index([f"{section}-{name}" for section, frame in frames.items() for name in frame.index])
    unique: pd.Index = prefixed if prefixed.is_unique else make_index_unique(prefixed)
    return unique


def join_var(sections: Sequence[AnnData], genes: pd.Index) -> pd.DataFrame:
    """Columns of `var` in which all sections agree, for `genes`."""
    first, *others = [section.var.loc[genes] for section in sections]
    same = [
        column
        for column in first.columns
        if all(column in other and other[column].equals(first[column]) for other in others)
    ]
    agreed: pd.DataFrame = first[same].copy()
    return agreed


def join_obsm(sections: Sequence[AnnData]) -> dict[str, Any]:
    """Arrays that every section has under one key and with equal width."""
    joined = {}
    for key in dict.fromkeys(key for section in sections for key in section.obsm):
        parts = [section.obsm.get(key) for section in sections]
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if len(arrays) == len(parts) and len({part.shape[1:] for part in arrays}) == 1:
            joined[key] = np.concatenate(arrays)
        else:
            logger.info("obsm[%r] is left out: it is not an array of one width in every section", key)
    return joined


def join_colors(sections: Sequence[AnnData], obs: pd.DataFrame) -> dict[str, list[str]]:
    """Colours of categorical columns, where the sections agree on them and together name one for every category.

    Parameters
    ----------
    sections
        The sections, with ``uns["<column>_colors"]`` in the order of the categories of ``obs["<column>"]``.
    obs
        The joined table.

    Returns
    -------
    ``"<column>_colors"`` to a list of colours, in the order of the joined categories.
    """
    colors = {}
    for column in obs.columns[[isinstance(kind, pd.CategoricalDtype) for kind in obs.dtypes]]:
        seen = {pair for section in sections for pair in _color_pairs(section, column)}
        color_of = dict(seen)
        if len(color_of) == len(seen) and set(color_of) == set(obs[column].cat.categories):
            colors[f"{column}_colors"] = [color_of[category] for category in obs[column].cat.categories]
    return colors


def _color_pairs(section: AnnData, column: str) -> list[tuple[Any, str]]:
    key = f"{column}_colors"
    if key not in section.uns or column not in section.obs or not hasattr(section.obs[column], "cat"):
        return []
    categories = section.obs[column].cat.categories
    return list(zip(categories, map(str, section.uns[key]), strict=False))
