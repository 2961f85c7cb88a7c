from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from isost import _keys as keys
from isost._logging import logger
from isost._normalization import SPACE

from ._surroundings import Surroundings

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._inputs import Sections

__all__ = ["OWN_COLUMNS", "categorical_columns", "check_labels", "label_colors", "label_columns", "probable_labels"]

OWN_COLUMNS = {keys.MEASURED, keys.SOURCE_SECTION, keys.SECTION_DISTANCE, keys.CUT, keys.DENSITY, keys.UNCERTAINTY}
_MOST_NUMBERS = 2**22  # of places times labels at a time: bounds memory


def categorical_columns(stack: AnnData) -> list[str]:
    """Columns of the stack that hold labels: no name of the section, nor what isost writes under that name."""
    section = stack.obs[stack.uns[keys.UNS]["params"]["section_key"]]
    return [
        str(name)
        for name, values in stack.obs.select_dtypes("category").items()
        if name not in OWN_COLUMNS and not _names_sections(values, section)
    ]


def _names_sections(labels: pd.Series, section: pd.Series) -> bool:
    """Whether labels differ between sections and never in one: between sections there is nothing of the kind."""
    known = labels.notna().to_numpy()
    own = labels.cat.codes[known].groupby(section.cat.codes.to_numpy()[known]).agg(["min", "max"])
    return bool((own["min"] == own["max"]).all() and own["min"].min() < own["max"].max())


def check_labels(stack: AnnData) -> None:
    """Raise ValueError if a label would be overwritten by another's probability, and tell of labels left behind."""
    labels = categorical_columns(stack)
    for name in labels:
        if f"{name}_probability" in labels:
            msg = (
                f"obs has the labels {name!r} and '{name}_probability', which is where the probability of {name!r} is "
                f"written; rename one of them in the stack"
            )
            raise ValueError(msg)
    section_key = stack.uns[keys.UNS]["params"]["section_key"]
    if left := set(stack.obs.select_dtypes("category")) - {section_key, *OWN_COLUMNS, *labels}:
        logger.info("the labels %s are not carried over, since every section has only one", ", ".join(sorted(left)))
    for name in OWN_COLUMNS.intersection(stack.obs.select_dtypes("category")):
        logger.warning("the labels obs[%r] are not carried over, since isost writes this column; rename them", name)


def label_colors(stack: AnnData) -> dict[str, Any]:
    """Colours of the labels, copied: what `uns` has as ``<column>_colors``."""
    return {key: copy(value) for key, value in stack.uns.items() if key.endswith("_colors")}


def label_columns(stack: AnnData, around: sp.csr_array, donor: NDArray[np.intp]) -> pd.DataFrame:
    """Labels of the cells carried here, and how common each is among the measured cells around.

    Parameters
    ----------
    stack
        The stack, whose categorical columns are carried over.
    around
        Weights of its cells around each place, (n, cells), see `Surroundings`.
    donor
        Row of the stack that each cell comes from, (n,).
    """
    columns = categorical_columns(stack)
    labels: pd.DataFrame = stack.obs[columns].iloc[donor].reset_index(drop=True)
    for name in columns:
        is_label = _indicators(stack.obs[name])
        share = (around @ is_label).multiply(is_label[donor]).sum(1)
        labels[f"{name}_probability"] = np.where(labels[name].notna(), _as_share(share), np.nan)
    return labels


def probable_labels(stack: AnnData, sections: Sections, place: NDArray[np.float64]) -> pd.DataFrame:
    """Most common label among the measured cells around each place (n, 3), input units, and its share of them.

    Missing where no cell around has a label.
    """
    columns = categorical_columns(stack)
    if not columns:
        return pd.DataFrame(index=range(len(place)))
    view, surroundings = sections.stack, Surroundings(sections)
    state = view.normalization.encode(place, dims=SPACE)
    gap_of, fraction = surroundings.located(state[:, 2])
    # places above one another have the same cells around
    order = np.lexsort((state[:, 0], state[:, 1], gap_of))
    at_once = max(1, _MOST_NUMBERS // max(len(stack.obs[name].cat.categories) + 1 for name in columns))
    best = {name: np.empty(len(place), np.intp) for name in columns}
    largest = {name: np.empty(len(place)) for name in columns}
    for gap in np.unique(gap_of):
        own = order[slice(*np.searchsorted(gap_of[order], [gap, gap + 1]))]
        for rows in (own[start : start + at_once] for start in range(0, len(own), at_once)):
            in_plane, column = np.unique(state[rows, 0] + 1j * state[rows, 1], return_inverse=True)
            xy, t = np.column_stack([in_plane.real, in_plane.imag]), fraction[rows, None]
            around = [(k, surroundings.nearest(k, xy)) for k in (gap, gap + 1)]
            for name in columns:
                lower, upper = (_shares(stack.obs[name].iloc[view.section(k)], nearest) for k, nearest in around)
                share = (1 - t) * lower[column] + t * upper[column]
                best[name][rows], largest[name][rows] = share.argmax(1), share.max(1)
    labels = pd.DataFrame(
        {
            name: pd.Categorical.from_codes(np.where(largest[name] > 0, best[name], -1), dtype=stack.obs[name].dtype)
            for name in columns
        }
    )
    return labels.assign(
        **{f"{name}_probability": np.where(largest[name] > 0, _as_share(largest[name]), np.nan) for name in columns}
    )


def _shares(labels: pd.Series, nearest: NDArray[np.intp]) -> NDArray[np.float64]:
    """Share of each label among some cells of a section around each place: (n, categories) from (n, cells)."""
    codes, n_labels = labels.cat.codes.to_numpy()[nearest], max(len(labels.cat.categories), 1)
    place = np.repeat(np.arange(len(codes)), codes.shape[1]).reshape(codes.shape)
    known = codes >= 0
    counts = np.bincount(place[known] * n_labels + codes[known], minlength=len(codes) * n_labels)
    shares: NDArray[np.float64] = counts.reshape(-1, n_labels) / codes.shape[1]
    return shares


def _indicators(labels: pd.Series) -> sp.csr_array:
    """1 where a cell has a label, (cells, categories)."""
    codes = labels.cat.codes.to_numpy()
    known = np.flatnonzero(codes >= 0)
    shape = (len(codes), max(len(labels.cat.categories), 1))
    return sp.csr_array((np.ones(len(known)), (known, codes[known])), shape=shape)


def _as_share(total: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(total, 1.0)  # rounding may pass 1
