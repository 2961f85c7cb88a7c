from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from matplotlib import pyplot as plt

from isost import _keys

from ._color import Classes, Numbers, field, limits, percentile_or_number, stored_colors, values_of
from ._grid import voxels_of
from ._scene import Scene
from ._style import is_shown
from ._volume_matplotlib import draw as draw_picture
from ._volume_plotly import draw as draw_page

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ._color import Limit, Palette
    from ._grid import Voxels

__all__ = ["volume"]

Backend = Literal["matplotlib", "plotly"]
Projection = Literal["mean", "max"]
_MOST_VOXELS = 100_000  # a page of 10 MB that still turns smoothly


def volume(
    volume: AnnData,
    *,
    color: str | None = None,
    backend: Backend = "matplotlib",
    projection: Projection = "mean",
    threshold: float | str | None = None,
    layer: str | None = None,
    unit: str | None = None,
    cmap: str = "viridis",
    vmin: Limit = None,
    vmax: Limit = "p99",
    palette: Palette = None,
    max_voxels: int | None = None,
    show: bool | None = None,
) -> Figure | Any:
    """Draw a volume: three projections beside a view in 3D, or a page to turn, cut through and ask.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    color
        A gene or a column of `obs`: numbers are shaded and fade out towards low values, categories painted.
        None draws `obs["density"]`.
    backend
        ``"matplotlib"`` for a picture; ``"plotly"`` for a page with a slider through depth and every voxel's values
        under the mouse. Write it to a file by ``figure.write_html(path)``.
    projection
        What a pixel of a projection shows of the voxels behind it: their mean, weighted by density, or the largest
        value. Of categories it shows the one of most cells. For ``"matplotlib"`` only.
    threshold
        Leave voxels of lower values out of the 3D view: a number, or a percentile such as ``"p50"``.
    layer
        Layer to take a gene from; None takes X.
    unit
        Unit of the positions, such as ``"µm"``.
    cmap
        Colour map of numbers.
    vmin, vmax
        Ends of the colour scale: a number, a percentile such as ``"p99"``, or None for the smallest or largest value.
    palette
        Colours of categories: a list, a dict from category to colour, or the name of a colour map.
    max_voxels
        Most voxels to draw in 3D; beyond, blocks of voxels are drawn as one at their mean, and the figure says so.
        None takes 100,000.
    show
        Show now and return nothing. None does what ``scanpy.settings.autoshow`` says; a plotly figure is shown
        by the notebook that it is returned to, so there None returns it.

    Returns
    -------
    :class:`matplotlib.figure.Figure` or :class:`plotly.graph_objects.Figure`, or None when shown.

    Raises
    ------
    KeyError
        If `volume` has no grid, or `color` or `layer` does not exist.
    ValueError
        If `backend` or `projection` is unknown, `threshold` is given for categories, or no voxel passes it.

    Examples
    --------
    >>> isost.pl.volume(volume, color="Gad1", unit="µm")
    >>> isost.pl.volume(volume, color="Gad1", backend="plotly").write_html("Gad1.html")
    """
    for name, value, known in (("backend", backend, Backend), ("projection", projection, Projection)):
        if value not in get_args(known):
            msg = f"{name}={value!r} is unknown; choose one of {get_args(known)}"
            raise ValueError(msg)
    color = color or _keys.DENSITY
    voxels = voxels_of(volume)
    shades = field(
        values_of(volume, color, layer=layer), name=color, stored=stored_colors(volume, color), palette=palette
    )
    scene = Scene(
        voxels=voxels,
        shades=shades,
        # an average of densities is over voxels, one of anything else over the cells in them
        weights=np.ones_like(voxels.density) if color == _keys.DENSITY else voxels.density,
        kept=_kept(shades, threshold),
        measured_depths=_measured_depths(volume, voxels),
        scale=limits(shades.values, vmin=vmin, vmax=vmax) if isinstance(shades, Numbers) else (0.0, 1.0),
        cmap=cmap,
        unit=unit,
        max_voxels=max_voxels or _MOST_VOXELS,
    )
    if backend == "plotly":
        return _shown_page(scene, volume, show=show)

    figure = draw_picture(scene, projection=projection)
    if is_shown(show):
        plt.show()
        return None
    return figure


def _shown_page(scene: Scene, volume: AnnData, *, show: bool | None) -> Any:
    told = [key for key in (_keys.DENSITY, _keys.UNCERTAINTY, _keys.SECTION_DISTANCE) if key in volume.obs]
    figure = draw_page(scene, told={key: volume.obs[key].to_numpy(dtype=np.float64) for key in told})
    if show:
        figure.show()
        return None
    return figure


def _kept(shades: Numbers | Classes, threshold: float | str | None) -> NDArray[np.bool_]:
    if isinstance(shades, Classes):
        if threshold is not None:
            msg = f"threshold={threshold!r} needs numbers, but {shades.name!r} is a category; leave it out"
            raise ValueError(msg)
        return np.ones(len(shades.codes), dtype=bool)
    if threshold is None:
        return np.isfinite(shades.values)
    least = percentile_or_number(threshold, shades.values, what="threshold")
    kept = shades.values >= least
    if not kept.any():
        msg = (
            f"no voxel has {shades.name!r} of at least threshold={least:g}; the largest is {np.nanmax(shades.values):g}"
        )
        raise ValueError(msg)
    return kept


def _measured_depths(volume: AnnData, voxels: Voxels) -> NDArray[np.float64]:
    """Depths (m,) of the layers of voxels in which a measured section lies."""
    if _keys.MEASURED not in volume.obs:
        return np.empty(0)
    measured = volume.obs[_keys.MEASURED].to_numpy(dtype=bool)
    return np.unique(voxels.centers[measured, 2])
