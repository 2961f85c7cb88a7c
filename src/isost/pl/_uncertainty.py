from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib import pyplot as plt

from isost import _keys

from ._color import Coloring, Numbers, check_known
from ._grid import groups_of, measured_depths, pooled, voxels_of
from ._layout import explain, explanation_space, place
from ._style import add_scale_bar, drawn_on, finished, with_unit

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ._color import Limit
    from ._style import Background

__all__ = ["uncertainty"]

_HIGH, _MARGIN, _HEAD, _FOOT, _GAP, _CURVE = 3.2, 0.2, 0.5, 0.6, 1.0, 3.6  # inches
_BAND = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles


def uncertainty(
    volume: AnnData,
    *,
    unit: str | None = None,
    cmap: str = "magma",
    vmin: Limit = None,
    vmax: Limit = "p99",
    background: Background | None = None,
    show: bool | None = None,
) -> Figure | None:
    """Draw where a volume is uncertain, and how its uncertainty grows between the measured sections.

    On the left the mean of ``obs["uncertainty"]`` along z at each place, weighted by density; on the right its
    distribution over the voxels of each depth (median, half and nine tenths of them), with a line at each measured
    section.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    unit
        Unit of the positions, such as ``"µm"``.
    cmap
        Colour map.
    vmin, vmax
        Ends of the colour scale: a number, a percentile such as ``"p99"``, or None for the smallest or largest value.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    show
        Show the figure now and return nothing. None does what ``scanpy.settings.autoshow`` says.

    Returns
    -------
    :class:`matplotlib.figure.Figure`, or None when shown.

    Raises
    ------
    KeyError
        If `volume` has no grid or no ``obs["uncertainty"]``.

    Examples
    --------
    >>> isost.pl.uncertainty(volume, unit="µm")
    """
    voxels = voxels_of(volume)
    if _keys.UNCERTAINTY not in volume.obs:
        msg = f"the volume has no obs[{_keys.UNCERTAINTY!r}]; make it by isost.tl.reconstruct"
        raise KeyError(msg)
    values = volume.obs[_keys.UNCERTAINTY].to_numpy(dtype=np.float64)
    check_known(values, _keys.UNCERTAINTY)
    pixels, group = groups_of(voxels.index[:, :2])
    mean = pooled(values, group, weights=voxels.density, how="mean")
    coloring = Coloring.of(Numbers(_keys.UNCERTAINTY, mean), cmap=colormaps[cmap], vmin=vmin, vmax=vmax)
    with drawn_on(background):
        width, height, _ = voxels.extent * _HIGH / voxels.extent[1]
        side = explanation_space([coloring], height)
        left = _MARGIN + width + side + _GAP
        figure = plt.figure(figsize=(left + _CURVE + _MARGIN, _FOOT + height + _HEAD))
        place_map = place(figure, (_MARGIN, _FOOT, width, height))
        curve = place(figure, (left, _FOOT, _CURVE, height))
        image = np.zeros((*voxels.shape[:2], 4))
        image[tuple(pixels.T)] = coloring.rgba(mean)
        low, high = voxels.origin, voxels.origin + voxels.extent
        place_map.imshow(image.transpose(1, 0, 2), origin="lower", extent=(low[0], high[0], low[1], high[1]))
        place_map.set(xticks=[], yticks=[])
        place_map.spines[:].set_visible(False)
        place_map.set_title("mean along z", loc="left", fontsize="medium")
        add_scale_bar(place_map, width=float(voxels.extent[0]), unit=unit)
        explain([place_map], [coloring])
        _draw_curve(curve, voxels.centers[:, 2], values, measured_depths(volume, voxels))
        curve.set(xlabel=with_unit("z", unit, brackets=True), ylabel=_keys.UNCERTAINTY)
        return None if finished(figure, show) else figure


def _draw_curve(
    ax: Axes, depth: NDArray[np.float64], values: NDArray[np.float64], measured: NDArray[np.float64]
) -> None:
    by_depth = pd.Series(values).groupby(depth)
    quantiles = pd.DataFrame({level: by_depth.quantile(level) for level in _BAND})
    ink: dict[str, Any] = {"color": rcParams["text.color"]}
    for low, high, alpha in ((0, -1, 0.15), (1, -2, 0.25)):
        band = quantiles[_BAND[low]], quantiles[_BAND[high]]
        ax.fill_between(quantiles.index, *band, alpha=alpha, linewidth=0, **ink)
    ax.plot(quantiles.index, quantiles[0.5], **ink)
    for z in measured:
        ax.axvline(z, linewidth=0.6, linestyle=":", **ink)
    ax.spines[["right", "top"]].set_visible(False)
    ax.set_ylim(bottom=0)
    ax.set_title("at each depth; dotted: measured", loc="left", fontsize="medium")
