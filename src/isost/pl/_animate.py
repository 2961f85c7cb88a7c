from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import rcParams
from matplotlib.animation import FuncAnimation

from isost import _keys
from isost._checks import check_at_least, check_positive

from ._color import coloring_of
from ._grid import measured_depths, voxels_of
from ._layout import explain, explanation_space, place
from ._plane import PIXELS_PER_VOXEL, Plane, colors_of, draw_plane
from ._style import add_scale_bar, drawn_on, finished, rounded, with_unit

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

    from ._color import Limit, Palette
    from ._style import Background

__all__ = ["animate"]

_LONG_SIDE, _MARGIN, _HEAD, _FOOT, _RULER, _GAP = 4.0, 0.2, 0.45, 0.4, 0.12, 0.75  # inches


def animate(
    volume: AnnData,
    *,
    color: str | None = None,
    n_frames: int = 60,
    fps: float = 12,
    layer: str | None = None,
    unit: str | None = None,
    cmap: str = "viridis",
    vmin: Limit = None,
    vmax: Limit = "p99",
    palette: Palette = None,
    background: Background | None = None,
    show: bool | None = None,
) -> FuncAnimation | None:
    """Fly through a volume along z: cuts at rising depths, and a ruler with the measured sections.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    color
        A gene or a column of `obs`; None draws `obs["density"]`.
    n_frames
        Number of depths, from the first layer of voxels to the last.
    fps
        Frames a second.
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
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    show
        Show the animation now and return nothing. None does what ``scanpy.settings.autoshow`` says.

    Returns
    -------
    :class:`matplotlib.animation.FuncAnimation`, or None when shown. Its ``save("fly.gif")`` writes a GIF,
    ``save("fly.mp4")`` a film (which needs ffmpeg), and ``to_jshtml()`` what a notebook can play.

    Raises
    ------
    KeyError
        If `volume` has no grid, or `color` or `layer` does not exist.
    ValueError
        If `n_frames` is less than 2, or `fps` is not positive.

    Examples
    --------
    >>> isost.pl.animate(volume, color="Gad1", unit="µm", show=False).save("Gad1.gif")
    """
    check_at_least(2, n_frames=n_frames)
    check_positive(fps=fps)
    voxels = voxels_of(volume)
    coloring = coloring_of(
        volume, color or _keys.DENSITY, layer=layer, palette=palette, cmap=cmap, vmin=vmin, vmax=vmax
    )
    layers = voxels.centers[:, 2]
    depths = np.linspace(layers.min(), layers.max(), n_frames)
    pixel = voxels.size / PIXELS_PER_VOXEL
    with drawn_on(background):
        width, height = _LONG_SIDE * voxels.extent[:2] / voxels.extent[:2].max()
        total = _FOOT + _RULER + _GAP + height + _HEAD
        figure = plt.figure(figsize=(2 * _MARGIN + width + explanation_space([coloring], total), total))
        ax = place(figure, (_MARGIN, _FOOT + _RULER + _GAP, width, height))
        ruler = place(figure, (_MARGIN, _FOOT, width, _RULER))
        image = draw_plane(ax, voxels, coloring, Plane.at_depth(float(depths[0]), voxels), pixel=pixel)
        add_scale_bar(ax, width=float(voxels.extent[0]), unit=unit)
        explain([ax], [coloring])
        title = ax.set_title("", loc="left", fontsize="medium")
        pointer = _draw_ruler(ruler, depths, measured_depths(volume, voxels), unit=unit)

        def show_frame(i: int) -> list[Artist]:
            depth = float(depths[i])
            image.set_data(colors_of(voxels, coloring, Plane.at_depth(depth, voxels), pixel=pixel))
            title.set_text(with_unit(f"z = {rounded(depth, largest=np.abs(depths).max()):g}", unit))
            pointer.set_xdata([depth])
            return [image, title, pointer]

        show_frame(0)
        film = FuncAnimation(figure, show_frame, frames=n_frames, interval=1000 / fps)
        return None if finished(figure, show) else film


def _draw_ruler(ax: Axes, depths: NDArray[np.float64], measured: NDArray[np.float64], *, unit: str | None) -> Line2D:
    """Draw the line of depths with a stroke at each measured section, and the pointer that will move along it."""
    ink: dict[str, Any] = {"color": rcParams["text.color"]}
    reach = np.append(depths, measured)  # a section may lie above the centre of the last layer
    ax.set(xlim=(reach.min(), reach.max()), ylim=(0, 1), yticks=[])
    ax.set_xlabel(with_unit("z", unit, brackets=True) + ", strokes: measured", fontsize="small", labelpad=1)
    ax.tick_params(labelsize="small", length=2)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.vlines(measured, 0, 1, linewidth=1.5, clip_on=False, **ink)
    (pointer,) = ax.plot([depths[0]], [1.0], marker="v", markersize=7, clip_on=False, linestyle="none", **ink)
    return pointer
