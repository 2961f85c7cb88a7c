from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize

from isost._checks import check_at_least, check_positive

from ._color import MISSING, Classes, Coloring, field, stored_colors, values_of
from ._layout import explain, inches_per_unit, panel_axes
from ._panels import collect, depth_of
from ._style import add_scale_bar, drawn_on, finished, point_spacing, with_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ._color import Limit, Numbers, Palette
    from ._panels import Panel, Sections
    from ._style import Background

__all__ = ["slices"]

_SMALLEST_DOT = 0.4  # points; anything smaller fades from the page
_OUTLINE = "0.5"


def slices(
    stack: Sections,
    *,
    color: str | None = None,
    generated: Sections | None = None,
    sections: str | Sequence[str] | None = None,
    layer: str | None = None,
    section_key: str = "section",
    spatial_key: str = "spatial",
    z_key: str = "z",
    unit: str | None = None,
    ncols: int = 5,
    cmap: str = "viridis",
    vmin: Limit = None,
    vmax: Limit = "p99",
    palette: Palette = None,
    size: float | None = None,
    background: Background | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
) -> list[Axes] | None:
    """Draw sections side by side in the order of their depth, all at one scale and with one colour scale.

    Parameters
    ----------
    stack
        Sections from :func:`isost.pp.slice_stack`, generated ones from :func:`isost.tl.section`, or any list or dict
        of sections.
    color
        A column of `obs` (numbers are shaded, anything else is painted by category in the colours of
        ``uns[f"{color}_colors"]``) or a gene. None draws the outline alone.
    generated
        Generated sections (:func:`isost.tl.section`) to set between the measured ones, marked as such.
    sections
        Names of the measured sections to draw; None draws all.
    layer
        Layer to take a gene from, in the sections that have it (generated ones have ``"mean"``); else X.
    section_key, spatial_key, z_key
        Where a section's name, positions and depth are: `obs`, `obsm`, `obs`. Names and depths are found as
        :func:`isost.pp.slice_stack` finds them; a stack and generated sections have depths as a third column of
        positions.
    unit
        Unit of the positions, such as ``"µm"``, for the depths and the scale bar.
    ncols
        Most sections in a row.
    cmap
        Colour map of numbers.
    vmin, vmax
        Ends of the colour scale: a number, a percentile such as ``"p99"``, or None for the smallest or largest value.
    palette
        Colours of categories: a list, a dict from category to colour, or the name of a colour map.
    size
        Diameter of a dot in the unit of the positions; None takes the cells' median spacing.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    ax
        Axes to draw into, as many as sections; a new figure is made when None.
    show
        Show the figure now and return nothing. None does what ``scanpy.settings.autoshow`` says, unless `ax` is given.

    Returns
    -------
    One :class:`matplotlib.axes.Axes` for each section in the order of depth, or None when shown.

    Raises
    ------
    KeyError
        If `color`, `layer`, a name in `sections` or ``obsm[spatial_key]`` does not exist.
    ValueError
        If there is no section, `ax` has not as many axes as there are sections, or `ncols` or `size` is not positive.

    Examples
    --------
    >>> isost.pl.slices(stack, color="Gad1", unit="µm")
    >>> isost.pl.slices(stack, color="cell_type", generated=isost.tl.section(stack, model=model, z=75.0))
    """
    check_at_least(1, ncols=ncols)
    check_positive(size=size)
    keys: dict[str, Any] = {"section_key": section_key, "spatial_key": spatial_key, "z_key": z_key}
    panels = _in_depth_order(stack, generated, sections, keys=keys)
    shades = None if color is None else _shared_field(panels, color, layer=layer, palette=palette)
    diameter = size or float(np.median([point_spacing(panel.points) for panel in panels]))
    low, high = _corners(panels, margin=diameter)
    colorings = [] if shades is None else [Coloring.of(shades, cmap=cmap, vmin=vmin, vmax=vmax)]
    given = None if ax is None else _as_many(ax, len(panels))
    with drawn_on(background):
        axes = given or panel_axes(len(panels), ncols=ncols, extent=high - low, colorings=colorings)
        _draw(axes, panels, colorings, corners=(low, high), diameter=diameter, unit=unit)
        explain(axes, colorings, beside=given is not None)
        return None if finished(axes[0].figure, show, ax=ax) else axes


def _draw(
    axes: list[Axes],
    panels: list[Panel],
    colorings: Sequence[Coloring],
    *,
    corners: tuple[NDArray[np.float64], NDArray[np.float64]],
    diameter: float,
    unit: str | None,
) -> None:
    low, high = corners
    largest = max((float(np.abs(panel.depths).max()) for panel in panels if len(panel.depths)), default=0.0)
    end = 0
    for panel, axis in zip(panels, axes, strict=True):
        start, end = end, end + len(panel.points)
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
        dot = max(_SMALLEST_DOT, diameter * inches_per_unit(axis, high - low) * 72)
        _dots(axis, panel.points, colorings, slice(start, end), dot=dot)
        _label(axis, panel, depth=depth_of(panel, largest=largest), unit=unit)
    add_scale_bar(axes[0], width=float(high[0] - low[0]), unit=unit)


def _in_depth_order(
    stack: Sections, generated: Sections | None, sections: str | Sequence[str] | None, keys: dict[str, Any]
) -> list[Panel]:
    panels = collect(stack, **keys)
    if sections is not None:
        wanted = [sections] if isinstance(sections, str) else list(sections)
        known = {panel.name: panel for panel in panels}
        missing = [name for name in wanted if name not in known]
        if missing:
            msg = f"sections={missing} are not among the sections, which are {list(known)}"
            raise KeyError(msg)
        panels = [known[name] for name in wanted]
    if generated is not None:
        panels += collect(generated, **keys, is_generated=True)
    if not panels:
        msg = "there is no section to draw; give a stack from isost.pp.slice_stack or a list of sections"
        raise ValueError(msg)
    if any(np.isnan(panel.depth) for panel in panels):
        return panels
    return sorted(panels, key=lambda panel: panel.depth)


def _shared_field(panels: list[Panel], color: str, *, layer: str | None, palette: Palette) -> Numbers | Classes:
    """Values of all panels one after another: limits, categories and colours are then the same in each."""
    if layer is not None and not any(layer in panel.adata.layers for panel in panels):
        msg = f"no section has a layer {layer!r}; layer=None takes X"
        raise KeyError(msg)
    columns = [values_of(panel.adata, color, layer=layer if layer in panel.adata.layers else None) for panel in panels]
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        # keeps the order of the categories, which the stored colours follow; some may be of other types than others
        names = dict.fromkeys(str(category) for column in columns for category in column.cat.categories)
        shared = pd.CategoricalDtype(list(names))
        columns = [column.map(str, na_action="ignore").astype(shared) for column in columns]
    joined = pd.concat(columns, ignore_index=True)
    stored: dict[str, str] = {}
    for panel in reversed(panels):  # the first section's colours win
        stored |= stored_colors(panel.adata, color)
    return field(joined, name=color, stored=stored, palette=palette)


def _corners(panels: list[Panel], *, margin: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.concatenate([panel.points for panel in panels])
    if not len(points):
        msg = "the sections to draw have no cells"
        raise ValueError(msg)
    margin = margin or 1.0  # one point alone has no extent
    return points.min(axis=0) - margin, points.max(axis=0) + margin


def _as_many(ax: Axes | Sequence[Axes], n: int) -> list[Axes]:
    axes: list[Axes] = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != n:
        msg = f"ax has {len(axes)} axes for {n} sections; give as many, or choose some by sections="
        raise ValueError(msg)
    return axes


def _dots(ax: Axes, points: NDArray[np.float64], colorings: Sequence[Coloring], rows: slice, *, dot: float) -> None:
    look: dict[str, Any] = {"s": dot**2, "linewidths": 0, "rasterized": True}
    if not colorings:
        look["color"] = _OUTLINE
    elif isinstance(shades := colorings[0].shades, Classes):
        look["c"] = [shades.color_of(code) for code in shades.codes[rows]]
    else:
        values = shades.values[rows]
        order = np.argsort(np.where(np.isnan(values), -np.inf, values), kind="stable")  # else zeros hide the rare highs
        points = points[order]
        look |= {"c": values[order], "plotnonfinite": True, "norm": Normalize(*colorings[0].scale)}
        look["cmap"] = colorings[0].cmap.with_extremes(bad=MISSING)
    ax.scatter(points[:, 0], points[:, 1], **look)


def _label(ax: Axes, panel: Panel, *, depth: str, unit: str | None) -> None:
    """Depth above each panel, then the section's name or that it is generated; a dashed frame says so once more."""
    ax.set_title(with_unit(depth, unit) if depth else panel.name, loc="left", fontsize="medium", pad=15)
    below = "generated" if panel.generated else panel.name if depth else ""
    style = "italic" if panel.generated else "normal"
    ax.annotate(
        below, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize="small", fontstyle=style
    )
    for spine in ax.spines.values():
        spine.set(linewidth=0.6, linestyle=(0, (4, 3)) if panel.generated else "solid")
