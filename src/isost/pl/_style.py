from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rcParams
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["add_scale_bar", "extend", "is_shown", "point_spacing", "round_length", "with_unit"]


def with_unit(value: str, unit: str | None, *, brackets: bool = False) -> str:
    """Write ``"50 µm"``, or with brackets ``"x (µm)"``; the bare value where no unit is known."""
    if not unit:
        return value
    return f"{value} ({unit})" if brackets else f"{value} {unit}"


def round_length(longest: float) -> float:
    """Find the largest of 1, 2, 5 times a power of ten that is not above `longest`."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(power * max(step for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))


def point_spacing(points: NDArray[np.float64]) -> float:
    """Take the median over points of the mean distance to the four nearest, input units; 0 for a point alone."""
    if len(points) < 2:
        return 0.0
    ranks = np.arange(2, min(5, len(points)) + 1)  # the nearest of all is the point itself
    distances = np.asarray(cKDTree(points).query(points, ranks)[0])
    return float(np.median(distances.mean(axis=1)))


def extend(values: NDArray[np.float64], low: float, high: float) -> str:
    """Say which ends of a colour bar get an arrow because values lie beyond."""
    below, above = bool(np.nanmin(values) < low), bool(np.nanmax(values) > high)
    return {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}[below, above]


def add_scale_bar(ax: Axes, *, width: float, unit: str | None) -> None:
    """Draw a bar of a round length, at most a third of `width` (input units), under the axes' lower left corner."""
    length = round_length(width / 3)
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        with_unit(f"{length:g}", unit),
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes,
        pad=0,
        borderpad=0.5,
        sep=3,
        frameon=False,
        size_vertical=width * 0.008,
        color=rcParams["text.color"],
        fontproperties={"size": "small"},
    )
    ax.add_artist(bar)


def is_shown(show: bool | None) -> bool:
    """Decide whether to show at once: as asked or, for None, as scanpy's ``settings.autoshow`` says."""
    if show is not None:
        return show
    import scanpy as sc

    return bool(sc.settings.autoshow)
