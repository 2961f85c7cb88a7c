from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from isost._keys import SECTION

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["split_sections"]


def split_sections(adata: AnnData, *, section_key: str = SECTION) -> dict[str, AnnData]:
    """Split one AnnData into its sections, as views.

    Parameters
    ----------
    adata
        All sections' points, in any order.
    section_key
        Column of `adata.obs` that names each point's section.

    Returns
    -------
    Section name to a view of its rows, in the order of the column's categories, or of first appearance where the
    column is not categorical. Categories without points are left out.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If some points have no section, or two sections have the same name as text, such as 1 and ``"1"``.
    """
    if section_key not in adata.obs:
        msg = (
            f"one AnnData was given, but obs has no column {section_key!r} to split it into sections by; "
            f"pass section_key= (obs has {list(adata.obs.columns)}) or a list of sections"
        )
        raise KeyError(msg)
    labels = pd.Categorical(adata.obs[section_key], categories=_in_order(adata.obs[section_key]))
    if (labels.codes < 0).any():
        msg = f"obs[{section_key!r}] is missing for {(labels.codes < 0).sum()} points; drop them or name their section"
        raise ValueError(msg)
    if len({str(name) for name in labels.categories}) < len(labels.categories):
        msg = f"obs[{section_key!r}] has names that are the same as text, in {list(labels.categories)}; rename them"
        raise ValueError(msg)
    return {str(name): adata[labels.codes == code] for code, name in enumerate(labels.categories)}


def _in_order(labels: pd.Series) -> pd.Index:
    """Distinct labels that occur: in the order of the categories if there are any, else of first appearance."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return labels.cat.remove_unused_categories().cat.categories
    found: pd.Index = pd.Index(labels.dropna().unique())
    return found
