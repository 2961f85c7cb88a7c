from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib import pyplot as plt
from matplotlib.colors import Normalize, to_rgba_array
from matplotlib.ticker import MaxNLocator

from ._color import Classes
from ._grid import groups_of
from ._layout import BAR_SPACE, add_color_bar, add_legend, legend_space, place
from ._scene import CLASS_OPACITY, LEVEL_OPACITY, codes_of
from ._style import extend, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ._grid import Pooling
    from ._scene import Scene

__all__ = ["draw"]

# inches
_LONG_SIDE, _MARGIN, _HEAD, _GAP = 3.8, 0.65, 0.5, 0.25
_VIEW, _VIEW_SIDE = 4.0, 0.85  # labels in 3D reach out of their square on the right


def draw(scene: Scene, *, projection: Pooling) -> Figure:
    """Draw the projections along z, x and y at one scale and aligned, and the view in 3D beside them."""
    extent = scene.voxels.extent
    width, height, depth = extent * _LONG_SIDE / (extent[:2].max() + extent[2])
    left_block = _MARGIN + width + _GAP + depth + _GAP
    total_height = max(_HEAD + height + _GAP + depth + _MARGIN, _VIEW + _HEAD)
    free = legend_space(scene.shades, total_height) if isinstance(scene.shades, Classes) else BAR_SPACE
    figure = plt.figure(figsize=(left_block + _VIEW + _VIEW_SIDE + free, total_height))
    # the front view's lower edge; the side view stands to its right, the top view below
    base = (total_height + depth + _GAP - _HEAD + _MARGIN - height) / 2
    front = place(figure, (_MARGIN, base, width, height))
    side = place(figure, (_MARGIN + width + _GAP, base, depth, height))
    top = place(figure, (_MARGIN, base - _GAP - depth, width, depth))
    for ax, plane in ((front, (0, 1)), (side, (2, 1)), (top, (0, 2))):
        _project(ax, scene, plane, projection)
    # aligned with their neighbours, these axes are read there
    front.set(xlabel="", xticks=[])
    side.set(ylabel="", yticks=[])
    _mark_measured(side, top, scene.measured_depths)
    how = "most cells" if isinstance(scene.shades, Classes) else projection
    front.set_title(f"projections ({how})", loc="left", fontsize="medium")

    box = (left_block, (total_height - _VIEW) / 2, _VIEW, _VIEW)
    view = place(figure, box, projection="3d")
    _view(view, scene)
    if isinstance(scene.shades, Classes):
        add_legend([view], scene.shades, beside=False, gap=_VIEW_SIDE)
    else:
        ends = extend(scene.values, *scene.scale)
        add_color_bar(
            [view], cmap=scene.cmap, scale=scene.scale, label=scene.shades.name, ends=ends, beside=False, gap=_VIEW_SIDE
        )
    return figure


def _project(ax: Axes, scene: Scene, axes: tuple[int, int], projection: Pooling) -> None:
    """Draw what lies behind each pixel of the plane of two of the axes x, y, z."""
    voxels = scene.voxels
    pixels, group = groups_of(voxels.index[:, axes])
    image = np.full(tuple(voxels.shape[list(axes)]), np.nan)
    image[tuple(pixels.T)] = scene.pool(group, how=projection)
    low = voxels.origin[list(axes)]
    high = low + voxels.extent[list(axes)]
    ax.imshow(
        _colors(scene, image.T),
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        aspect="equal",
        interpolation="nearest",
    )
    names = [with_unit(name, scene.unit, brackets=True) for name in "xyz"]
    ax.set(xlabel=names[axes[0]], ylabel=names[axes[1]])
    ax.tick_params(labelsize="small", length=2)
    ax.xaxis.set_major_locator(_ticks(voxels.extent[axes[0]], voxels.extent))
    ax.yaxis.set_major_locator(_ticks(voxels.extent[axes[1]], voxels.extent))
    ax.spines[:].set_visible(False)


def _colors(scene: Scene, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (..., 4) of values or codes; transparent where there is nothing."""
    if isinstance(scene.shades, Classes):
        table = np.asarray(to_rgba_array([*scene.shades.colors, "none"]), dtype=np.float64)
        return table[codes_of(values)]
    colors = np.asarray(colormaps[scene.cmap](Normalize(*scene.scale)(values)), dtype=np.float64)
    colors[np.isnan(values), 3] = 0
    return colors


def _mark_measured(side: Axes, top: Axes, depths: NDArray[np.float64]) -> None:
    """Point from outside at the depths of measured sections, in the two projections that show depth."""
    look: dict[str, Any] = {"color": rcParams["text.color"], "markersize": 4, "linestyle": "none", "clip_on": False}
    side.plot(depths, np.full_like(depths, 1.02), marker="v", transform=side.get_xaxis_transform(), **look)
    top.plot(np.full_like(depths, 1.02), depths, marker="<", transform=top.get_yaxis_transform(), **look)
    if len(depths):
        middle = (1.02, float(np.median(depths)))
        where: dict[str, Any] = {"xycoords": top.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        top.annotate("measured", middle, (6, 0), fontsize="small", **where)


def _view(ax: Any, scene: Scene) -> None:
    blocks = scene.blocks()
    shown = blocks.on_surface
    colors = _colors(scene, blocks.values[shown])
    colors[:, 3] = CLASS_OPACITY if isinstance(scene.shades, Classes) else np.take(LEVEL_OPACITY, blocks.levels[shown])
    low, extent = scene.voxels.origin, scene.voxels.extent
    # the longest side takes up about two thirds of the view
    dot = 72 * _VIEW * 0.65 * blocks.voxels.size / extent.max()
    x, y, z = blocks.voxels.centers[shown].T
    ax.scatter(x, y, z, c=colors, s=dot**2, linewidths=0, depthshade=False)
    ax.set(xlim=(low[0], low[0] + extent[0]), ylim=(low[1], low[1] + extent[1]), zlim=(low[2], low[2] + extent[2]))
    ax.set_box_aspect(extent, zoom=1.0)
    for name, axis, length in zip("xyz", (ax.xaxis, ax.yaxis, ax.zaxis), extent, strict=True):
        axis.set_major_locator(_ticks(length, extent))
        axis.set_pane_color((0, 0, 0, 0))
        axis.set_label_text(with_unit(name, scene.unit, brackets=True))
    ax.grid(False)
    ax.tick_params(labelsize="small")
    ax.view_init(elev=25, azim=-60)
    ax.set_title(blocks.note, fontsize="small", y=0, va="top")


def _ticks(length: float, extent: NDArray[np.float64]) -> MaxNLocator:
    # a thin side has no room for the ticks of a long one
    return MaxNLocator(max(1, round(4 * length / extent.max())), min_n_ticks=1)
