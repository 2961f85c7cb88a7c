from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rcParams

from isost import _keys
from isost._checks import check_positive

from ._color import coloring_of
from ._grid import measured_depths, voxels_of
from ._layout import explain, panel_axes
from ._plane import PIXELS_PER_VOXEL, draw_plane, plane_at
from ._style import add_scale_bar, drawn_on, finished, with_unit

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from ._color import Limit, Palette
    from ._plane import Plane
    from ._style import Background

__all__ = ["cut"]

_LONG_SIDE = 4.5  # inches


def cut(
    volume: AnnData,
    *,
    color: str | None = None,
    z: float | None = None,
    plane: tuple[ArrayLike, ArrayLike] | None = None,
    pixel_size: float | None = None,
    layer: str | None = None,
    unit: str | None = None,
    cmap: str = "viridis",
    vmin: Limit = None,
    vmax: Limit = "p99",
    palette: Palette = None,
    background: Background | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw a volume cut along any plane, as an image; dotted lines show where measured sections cross it.

    Numbers are interpolated linearly between voxel centres; a category is the one of the nearest voxels.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    color
        A gene or a column of `obs`; None draws `obs["density"]`.
    z
        Depth of the cut, input units; either this or `plane`.
    plane
        A point of the plane and its normal, three numbers each, input units, as for :func:`isost.tl.section`.
    pixel_size
        Edge of a pixel, input units; None takes a third of a voxel.
    layer
        Layer to take a gene from; None takes X.
    unit
        Unit of the positions, such as ``"µm"``, for the scale bar.
    cmap
        Colour map of numbers.
    vmin, vmax
        Ends of the colour scale: a number, a percentile such as ``"p99"``, or None for the smallest or largest value;
        of the whole volume, so that cuts can be compared.
    palette
        Colours of categories: a list, a dict from category to colour, or the name of a colour map.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    ax
        Axes to draw into; a new figure is made when None.
    show
        Show the figure now and return nothing. None does what ``scanpy.settings.autoshow`` says, unless `ax` is given.

    Returns
    -------
    :class:`matplotlib.axes.Axes`, in coordinates of the plane (x and y for a depth), or None when shown.

    Raises
    ------
    KeyError
        If `volume` has no grid, or `color` or `layer` does not exist.
    ValueError
        If not exactly one of `z` and `plane` is given, it is malformed or does not meet the volume, or `pixel_size` is
        not positive.

    Examples
    --------
    >>> isost.pl.cut(volume, color="Gad1", plane=([0, 0, 75.0], [0, 1, 2]), unit="µm")
    """
    check_positive(pixel_size=pixel_size)
    voxels = voxels_of(volume)
    where = plane_at(z, plane, voxels)
    coloring = coloring_of(
        volume, color or _keys.DENSITY, layer=layer, palette=palette, cmap=cmap, vmin=vmin, vmax=vmax
    )
    with drawn_on(background):
        extent = where.high - where.low
        axis = ax or panel_axes(1, ncols=1, extent=extent, colorings=[coloring], long_side=_LONG_SIDE)[0]
        draw_plane(axis, voxels, coloring, where, pixel=pixel_size or voxels.size / PIXELS_PER_VOXEL)
        _mark_crossings(axis, where, measured_depths(volume, voxels))
        add_scale_bar(axis, width=float(extent[0]), unit=unit)
        axis.set_title(_title(z, where, unit), loc="left", fontsize="medium", pad=15)
        directions = f"→ {_direction(where.axes[:, 0])}   ↑ {_direction(where.axes[:, 1])}"
        if plane is not None:
            directions += f"   normal {_direction(where.normal)}"
        axis.annotate(
            directions, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize="small"
        )
        explain([axis], [coloring], beside=ax is not None)
        return None if finished(axis.figure, show, ax=ax) else axis


def _mark_crossings(ax: Axes, plane: Plane, depths: NDArray[np.float64]) -> None:
    rise = plane.axes[2]  # of z along the axes of the plane
    steepness = float(np.hypot(*rise))
    if steepness < 1e-6:
        return
    for depth in depths:
        point = (depth - plane.origin[2]) * rise / steepness**2
        ax.axline(
            tuple(point),
            (point[0] - rise[1], point[1] + rise[0]),
            color=rcParams["text.color"],
            linewidth=0.6,
            linestyle=":",
        )


def _direction(axis: NDArray[np.float64]) -> str:
    """Name the axis of space that an axis of the plane runs along, or give its direction."""
    nearest = int(np.abs(axis).argmax())
    return "xyz"[nearest] if axis[nearest] > 1 - 1e-6 else "({:.2g}, {:.2g}, {:.2g})".format(*(axis + 0.0))


def _title(z: float | None, plane: Plane, unit: str | None) -> str:
    if z is not None:
        return with_unit(f"z = {z:.4g}", unit)
    point = ", ".join(f"{value:.4g}" for value in plane.origin)
    return with_unit(f"plane through ({point})", unit)
