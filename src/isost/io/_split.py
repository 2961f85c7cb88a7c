from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._checks import kind_of
from isost._keys import SECTION, SPATIAL, UNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["named_sections", "point_depths", "split_sections"]


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
    labels = _in_order(adata.obs[section_key])
    if (labels.codes < 0).any():
        msg = f"obs[{section_key!r}] is missing for {(labels.codes < 0).sum()} points; drop them or name their section"
        raise ValueError(msg)
    if len({str(name) for name in labels.categories}) < len(labels.categories):
        msg = f"obs[{section_key!r}] has names that are the same as text, in {list(labels.categories)}; rename them"
        raise ValueError(msg)
    return {str(name): adata[labels.codes == code] for code, name in enumerate(labels.categories)}


def named_sections(
    adatas: Sequence[AnnData] | Mapping[str, AnnData] | AnnData, *, section_key: str = SECTION
) -> dict[str, AnnData]:
    """Bring any of the three ways to hand over sections into one: a dict by name.

    Parameters
    ----------
    adatas
        A list of sections, a dict from name to section, or one AnnData holding all of them.
    section_key
        Column of `obs` that names sections. One AnnData is split by it; sections of a list take their names from it
        where it is constant in each of them and no two agree, and are called ``"section_0"``, … otherwise.

    Returns
    -------
    Section name to section, in the order given. The sections are the caller's own objects, or views of them.

    Raises
    ------
    KeyError
        If one AnnData has no such column.
    TypeError
        If `adatas` is none of the three.
    ValueError
        If two sections have the same name as text, or some points of one AnnData have no section.
    """
    if isinstance(adatas, AnnData):
        return split_sections(adatas, section_key=section_key)
    if isinstance(adatas, Mapping):
        sections = {str(name): section for name, section in adatas.items()}
        if len(sections) < len(adatas):
            msg = f"two sections have the same name once it is text, in {list(adatas)}; name them differently"
            raise ValueError(msg)
        return sections
    if isinstance(adatas, Iterable) and not isinstance(adatas, str):
        listed = list(adatas)
        return dict(zip(_names(listed, section_key), listed, strict=True))
    msg = f"sections must be a list or dict of AnnData, or one AnnData, not {kind_of(adatas)}"
    raise TypeError(msg)


def point_depths(section: AnnData, *, z_key: str = "z", spatial_key: str = SPATIAL) -> tuple[NDArray[np.float64], str]:
    """Depths of one section's points: from `obs[z_key]`, else from a third column of `obsm[spatial_key]`.

    What isost made has its depths in the third column: ``obs["z"]`` is that which its cells came with. Another column
    that is named all the same is taken at its word.

    Parameters
    ----------
    section
        The section.
    z_key
        Column of its `obs`.
    spatial_key
        Key of its `obsm`.

    Returns
    -------
    Depths (n,), input units, NaN where one is no number, and what they were taken from; both empty if there are none.
    """
    points = np.asarray(section.obsm[spatial_key]) if spatial_key in section.obsm else np.empty((section.n_obs, 0))
    has_third = points.ndim == 2 and points.shape[1] > 2
    if z_key in section.obs and not (has_third and UNS in section.uns and z_key == "z"):
        return _numbers(section.obs[z_key]), f"obs[{z_key!r}]"
    if has_third:
        return _numbers(points[:, 2]), f"the third column of obsm[{spatial_key!r}]"
    return np.empty(0), ""


def _numbers(values: Any) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = pd.to_numeric(pd.Series(np.asarray(values)), errors="coerce").to_numpy(np.float64)
    return numbers


def _in_order(labels: pd.Series) -> pd.Categorical:
    """Labels with those that occur for categories: in the order of theirs if they have any, else of appearance."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return pd.Categorical(labels.cat.remove_unused_categories())
    return pd.Categorical(labels, categories=pd.Index(labels.dropna().unique()))


def _names(sections: list[Any], section_key: str) -> list[str]:
    """Names of listed sections: what they say of themselves if all do and no two agree, else by number."""
    own = [_own_name(section, section_key) for section in sections]
    if None in own or len(set(own)) < len(own):
        return [f"section_{i}" for i in range(len(sections))]
    return [str(name) for name in own]


def _own_name(section: Any, section_key: str) -> str | None:
    if not isinstance(section, AnnData) or section_key not in section.obs:
        return None
    values = section.obs[section_key].unique()
    return str(values[0]) if len(values) == 1 and pd.notna(values[0]) else None
