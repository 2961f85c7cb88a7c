from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from isost._checks import did_you_mean, kind_of
from isost._keys import SECTION
from isost._logging import logger
from isost.io import named_sections, point_depths

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "as_sections",
    "check_section",
    "check_sections",
    "positions",
    "section_depths",
    "shared_genes",
]

MIN_POINTS = 6  # a point and the 5 neighbours that the drift networks look at


def as_sections(
    adatas: Sequence[AnnData] | Mapping[str, AnnData] | AnnData, *, section_key: str = SECTION
) -> dict[str, AnnData]:
    """Do what :func:`isost.io.named_sections` does, and look at each section.

    Parameters
    ----------
    adatas, section_key
        As those of :func:`isost.io.named_sections`.

    Returns
    -------
    Section name to section, in the order given. The sections are the caller's own objects, or views of them.

    Raises
    ------
    TypeError
        If `adatas`, or one of its elements, is not an AnnData.
    ValueError
        If there are fewer than two sections, or one has fewer than 6 points or two genes of one name.
    """
    sections = named_sections(adatas, section_key=section_key)
    for name, section in sections.items():
        check_section(name, section)
    check_sections(sections, section_key=section_key)
    return sections


def check_sections(sections: Mapping[str, AnnData], *, section_key: str = SECTION) -> None:
    """Raise ValueError unless there are two sections at least."""
    if len(sections) < 2:
        msg = (
            f"at least two sections are needed to fill what lies between, but got {len(sections)}; to split one "
            f"AnnData by obs[{section_key!r}], pass the AnnData itself, not in a list"
        )
        raise ValueError(msg)


def check_section(name: str, section: Any) -> None:
    """Raise TypeError or ValueError unless the section is an AnnData of enough points, with genes of distinct names."""
    if not isinstance(section, AnnData):
        msg = f"section {name!r} is not an AnnData but {kind_of(section)}"
        raise TypeError(msg)
    if section.n_obs < MIN_POINTS:
        msg = (
            f"section {name!r} has {section.n_obs} points, but at least {MIN_POINTS} are needed (a point and its "
            f"5 neighbours); leave the section out"
        )
        raise ValueError(msg)
    if not section.var_names.is_unique:
        twice = section.var_names[section.var_names.duplicated()].unique()
        msg = (
            f"section {name!r} has {len(twice)} gene names more than once, such as {twice[0]!r}; "
            f"call var_names_make_unique() on it"
        )
        raise ValueError(msg)


def shared_genes(sections: Mapping[str, AnnData], *, genes: Sequence[str] | None = None) -> pd.Index:
    """Genes that every section has, in the order of the first one's `var_names`.

    Parameters
    ----------
    sections
        Section name to section.
    genes
        Restrict to these, in this order.

    Returns
    -------
    Gene names.

    Raises
    ------
    ValueError
        If no gene is shared, or one of `genes` is named twice.
    KeyError
        If some of `genes` are missing from a section.
    """
    if genes is not None:
        wanted = pd.Index(genes)
        if not len(wanted):
            msg = "genes= is an empty list; name at least one gene, or leave it out to use all that are shared"
            raise ValueError(msg)
        if not wanted.is_unique:
            msg = f"genes= names {wanted[wanted.duplicated()][0]!r} twice; name it once"
            raise ValueError(msg)
        for name, section in sections.items():
            missing = wanted.difference(section.var_names, sort=False)
            if len(missing):
                hint = did_you_mean(list(missing), section.var_names, otherwise="leave them out")
                msg = f"section {name!r} lacks {len(missing)} of genes=: {list(missing[:10])}; {hint}"
                raise KeyError(msg)
        return wanted
    first, *others = sections.values()
    shared = np.ones(first.n_vars, dtype=bool)
    for section in others:
        shared &= first.var_names.isin(section.var_names)
    if not shared.any():
        examples = {name: list(section.var_names[:3]) for name, section in sections.items()}
        without_case = [set(section.var_names.str.lower()) for section in sections.values()]
        hint = (
            "some names differ in upper and lower case alone: write them alike."
            if set.intersection(*without_case)
            else "do all var_names hold the same kind of name?"
        )
        msg = f"the sections share no genes; {hint} They begin with {examples}"
        raise ValueError(msg)
    names: pd.Index = first.var_names[shared]
    return names


def positions(name: str, section: AnnData, *, spatial_key: str) -> NDArray[np.float64]:
    """Positions of one section's points.

    Parameters
    ----------
    name
        The section's name, for messages.
    section
        The section.
    spatial_key
        Key of its `obsm`.

    Returns
    -------
    (n, 2) or (n, 3), input units.

    Raises
    ------
    KeyError
        If there is no such key.
    ValueError
        If there are not 2 or 3 columns, values are not finite, or all points lie at one place.
    """
    if spatial_key not in section.obsm:
        msg = f"section {name!r} has no obsm[{spatial_key!r}]; pass spatial_key= (obsm has {list(section.obsm.keys())})"
        raise KeyError(msg)
    try:
        points = np.asarray(section.obsm[spatial_key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"obsm[{spatial_key!r}] of section {name!r} must be numbers: {error}"
        raise ValueError(msg) from error
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        msg = f"obsm[{spatial_key!r}] of section {name!r} has shape {points.shape}, but must have 2 or 3 columns"
        raise ValueError(msg)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        msg = f"obsm[{spatial_key!r}] of section {name!r} is NaN or infinite at {bad.sum()} points; drop these points"
        raise ValueError(msg)
    if (np.ptp(points[:, :2], axis=0) == 0).all():
        msg = f"all points of section {name!r} lie at one place in obsm[{spatial_key!r}]; pass registered coordinates"
        raise ValueError(msg)
    return points


def section_depths(
    sections: Mapping[str, AnnData],
    *,
    z: Sequence[float] | Mapping[str, float] | None = None,
    z_key: str = "z",
    spatial_key: str = "spatial",
) -> dict[str, float]:
    """Depth of each section: from `z`, else `obs[z_key]`, else a third column of `obsm[spatial_key]`.

    A section is flat: where its points differ in depth, it lies at their mean, as long as the sections stay apart,
    that is, as long as the ranges of their depths do not overlap.

    Parameters
    ----------
    sections
        Section name to section.
    z
        One depth per section: in the order of `sections`, or by name.
    z_key
        Column of `obs`.
    spatial_key
        Key of `obsm`.

    Returns
    -------
    Section name to depth in input units, in the order of `sections`.

    Raises
    ------
    KeyError
        If a section has no depth, or `z` names a section that is not there.
    ValueError
        If a depth is not a finite number, two sections lie at one depth, or the depths of two sections overlap.
    """
    names = list(sections)
    if z is None:
        ranges = {name: _measured_depth(name, sections[name], z_key, spatial_key) for name in names}
    elif isinstance(z, Mapping):
        given = {str(name): value for name, value in z.items()}
        if set(given) != set(names):
            msg = (
                f"z= must name every section once: missing {sorted(set(names) - set(given))}, "
                f"unknown {sorted(set(given) - set(names))}"
            )
            raise KeyError(msg)
        ranges = {name: _depth_range(name, [given[name]], "z=") for name in names}
    else:
        if np.ndim(z) != 1 or len(z) != len(names):
            msg = f"z= must hold one depth for each of the {len(names)} sections {names}, but is {z!r}"
            raise ValueError(msg)
        ranges = {name: _depth_range(name, [value], "z=") for name, value in zip(names, z, strict=True)}
    _check_apart(ranges)
    return {name: mean for name, (_, mean, _) in ranges.items()}


def _measured_depth(name: str, section: AnnData, z_key: str, spatial_key: str) -> tuple[float, float, float]:
    depths, source = point_depths(section, z_key=z_key, spatial_key=spatial_key)
    if source:
        return _depth_range(name, depths, source)
    msg = (
        f"section {name!r} has no depth: neither obs[{z_key!r}] nor a third column in obsm[{spatial_key!r}]; "
        f"pass z= with one number per section, or z_key="
    )
    raise KeyError(msg)


def _depth_range(name: str, values: Any, source: str) -> tuple[float, float, float]:
    """Lowest, mean and highest depth of a section."""
    try:
        depths = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        depths = np.array([np.nan])
    if not np.isfinite(depths).all():
        msg = f"{source} of section {name!r} must be finite numbers; pass z= with one number per section"
        raise ValueError(msg)
    low, high = float(depths.min()), float(depths.max())
    # the mean of equal numbers can differ from them in the last digit
    return low, low if low == high else float(depths.mean()), high


def _check_apart(ranges: Mapping[str, tuple[float, float, float]]) -> None:
    order = sorted(ranges, key=lambda name: ranges[name][1])
    span = ranges[order[-1]][1] - ranges[order[0]][1]
    for below, above in pairwise(order):
        gap = ranges[above][1] - ranges[below][1]
        if gap <= 1e-9 * span:
            msg = (
                f"sections {below!r} and {above!r} lie at the same z = {ranges[below][1]:g}; "
                f"merge them, leave one out, or pass their depths as z="
            )
            raise ValueError(msg)
        if ranges[below][2] > ranges[above][0]:
            msg = (
                f"the depths of sections {below!r} ({ranges[below][0]:g} to {ranges[below][2]:g}) and {above!r} "
                f"({ranges[above][0]:g} to {ranges[above][2]:g}) overlap; pass z= with one number per section"
            )
            raise ValueError(msg)
    thick = [name for name, (low, _, high) in ranges.items() if high > low]
    if thick:
        logger.info("points of one section differ in z; these sections lie at the mean: %s", ", ".join(thick))
