from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rcParams

from ._color import Classes
from ._grid import groups_of
from ._layout import explain, explanation_space, place, size_of
from ._space import set_space, ticks_along
from ._style import add_scale_bar, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ._grid import Pooling
    from ._scene import Scene

__all__ = ["draw"]

Box: TypeAlias = "tuple[float, float, float, float]"

# inches
_LONG_SIDE, _MARGIN, _HEAD, _FOOT, _GAP = 3.8, 0.65, 0.5, 0.5, 0.25
_VIEW, _SIDE = 4.4, 0.85  # what is in 3D reaches out of its square on both sides
_FLAT = 1 / 3  # depth over width, below which the views of the depth get the page's whole width
_TICKS = (0.7, 0.4)  # least distance in x and y
_ZOOM = 1.15  # fills the view with the volume


@dataclass(frozen=True)
class _Page:
    """Where on a page the views go, inches: boxes of left, bottom, width and height."""

    size: tuple[float, float]
    front: Box
    side: Box
    top: Box
    view: Box
    side_axes: tuple[int, int]  # which of x, y, z goes to the right and which up in the side view


def _page(extent: NDArray[np.float64]) -> _Page:
    """Put the views of depth beside the front view or, of a flat stack, below it and wider."""
    if extent[2] > _FLAT * extent[:2].max():
        width, height, depth = extent * _LONG_SIDE / (extent[:2].max() + extent[2])
        right = _MARGIN + width + _GAP + depth + _SIDE
        total = max(_HEAD + height + _GAP + depth + _FOOT, _VIEW + _HEAD)
        base = (total + depth + _GAP - _HEAD + _FOOT - height) / 2
        side = (_MARGIN + width + _GAP, base, depth, height)
        top = (_MARGIN, base - _GAP - depth, width, depth)
        view = (right, (total - _VIEW) / 2, _VIEW, _VIEW)
        return _Page((right + _VIEW, total), (_MARGIN, base, width, height), side, top, view, (2, 1))
    width, height, _ = extent * _LONG_SIDE / extent[:2].max()
    strip = width + _SIDE + _VIEW
    per_unit = strip / extent[:2].max()
    thick = extent[2] * per_unit
    top = (_MARGIN, _FOOT + thick + _FOOT, extent[0] * per_unit, thick)
    side = (_MARGIN, _FOOT, extent[1] * per_unit, thick)
    base = top[1] + thick + _FOOT
    row = max(height, _VIEW)
    view = (_MARGIN + width + _SIDE, base + (row - _VIEW) / 2, _VIEW, _VIEW)
    front = (_MARGIN, base + (row - height) / 2, width, height)
    return _Page((_MARGIN + strip, base + row + _HEAD), front, side, top, view, (1, 2))


def draw(scene: Scene, *, projection: Pooling) -> Figure:
    """Draw the projections along z, x and y, and the view in 3D beside them."""
    page = _page(scene.voxels.extent)
    width, height = page.size
    figure = plt.figure(figsize=(width + _SIDE + explanation_space(scene.colorings, height), height))
    front, side, top = (place(figure, box) for box in (page.front, page.side, page.top))
    for ax, plane in ((front, (0, 1)), (side, page.side_axes), (top, (0, 2))):
        _project(ax, scene, plane, projection)
    front.set(xlabel="", xticks=[], ylabel="", yticks=[])
    add_scale_bar(front, width=float(scene.voxels.extent[0]), unit=scene.unit)
    if page.side_axes == (2, 1):  # aligned with its neighbours, it is read there
        side.set(ylabel="", yticks=[])
        front.set_ylabel(with_unit("y", scene.unit, brackets=True))
    for ax, upright in ((side, page.side_axes == (1, 2)), (top, True)):
        _mark_measured(ax, scene.measured_depths, upright=upright)
    is_class = isinstance(scene.colorings[0].shades, Classes)
    front.set_title(f"projections ({'most cells' if is_class else projection})", loc="left", fontsize="medium")
    view = place(figure, page.view, projection="3d")
    _view(view, scene)
    explain([view], scene.colorings, gap=_SIDE)
    return figure


def _project(ax: Axes, scene: Scene, axes: tuple[int, int], projection: Pooling) -> None:
    """Draw what lies behind each pixel of the plane of two of the axes x, y, z."""
    voxels = scene.voxels
    pixels, group = groups_of(voxels.index[:, axes])
    image = np.zeros((*voxels.shape[list(axes)], 4))
    image[tuple(pixels.T)] = scene.rgba_of(group, how=projection)
    low = voxels.origin[list(axes)]
    high = low + voxels.extent[list(axes)]
    ax.imshow(
        image.transpose(1, 0, 2),
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        aspect="equal",
        interpolation="nearest",
    )
    names = [with_unit(name, scene.unit, brackets=True) for name in "xyz"]
    ax.set(xlabel=names[axes[0]], ylabel=names[axes[1]])
    ax.tick_params(labelsize="small", length=2)
    for axis, i, inches, apart in zip((ax.xaxis, ax.yaxis), axes, size_of(ax), _TICKS, strict=True):
        axis.set_major_locator(ticks_along(voxels, i, room=inches / apart))
    ax.spines[:].set_visible(False)


def _mark_measured(ax: Axes, depths: NDArray[np.float64], *, upright: bool) -> None:
    """Point from outside at the depths of measured sections, in a projection that shows depth upright or across."""
    look: dict[str, Any] = {"color": rcParams["text.color"], "markersize": 4, "linestyle": "none", "clip_on": False}
    beside = np.full_like(depths, 1.01)
    if not upright:
        ax.plot(depths, beside, marker="v", transform=ax.get_xaxis_transform(), **look)
        return
    ax.plot(beside, depths, marker="<", transform=ax.get_yaxis_transform(), **look)
    if len(depths):
        where: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        ax.annotate("measured", (1.01, float(np.median(depths))), (6, 0), fontsize="small", **where)


def _view(ax: Any, scene: Scene) -> None:
    places, colors = [], []
    for blocks in scene.blocks():
        for level, rows in blocks.shells:
            places.append(blocks.voxels.centers[rows])
            colors.append(blocks.coloring.rgba(blocks.values[rows]) * (1, 1, 1, blocks.opacity(level)))
    # the longest side takes up about two thirds of the view
    dot = 72 * _VIEW * 0.65 * _ZOOM * scene.block_size / scene.voxels.extent.max()
    x, y, z = np.concatenate(places).T
    ax.scatter(x, y, z, c=np.concatenate(colors), s=dot**2, linewidths=0, depthshade=False, clip_on=False)
    set_space(ax, scene.voxels, unit=scene.unit, zoom=_ZOOM, frames=scene.frames)
    ax.set_title(scene.note, fontsize="small", y=0, va="top")
