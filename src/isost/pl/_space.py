from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from matplotlib import rcParams
from matplotlib.ticker import FixedLocator, MaxNLocator

from ._grid import check_depth
from ._style import with_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.ticker import Locator
    from numpy.typing import NDArray

    from ._grid import Voxels

__all__ = ["Frames", "frame_lines", "joined", "set_space", "ticks_along"]

Frames: TypeAlias = "Literal['box', 'measured'] | float | Sequence[float] | None"
_TICKS = 4.5  # of the longest side of a view in 3D
_FEW, _ROOM_FOR_TWO = 3, 1 / 3  # of the ticks there is room for; labels take a third of it
_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])


def frame_lines(voxels: Voxels, frames: Frames, *, measured_depths: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Lay out the edges of the box around the tissue, or a rectangle at each depth: lines of (k, 3) points each."""
    if frames is None:
        return []
    low, high = voxels.origin, voxels.origin + voxels.extent
    is_box = isinstance(frames, str) and frames == "box"
    if isinstance(frames, str) and frames not in ("box", "measured"):
        msg = f"frames={frames!r} is unknown; choose 'box', 'measured' or a list of depths"
        raise ValueError(msg)
    if is_box:
        depths = np.array([low[2], high[2]])
    elif isinstance(frames, str):
        depths = measured_depths
    else:
        depths = np.ravel(np.asarray(frames, dtype=np.float64))
        for depth in depths:
            check_depth(depth, voxels)
    outline = low[:2] + _CORNERS * (high - low)[:2]
    lines = [np.column_stack([outline, np.full(len(outline), depth)]) for depth in depths]
    if is_box:
        lines += [np.array([[x, y, low[2]], [x, y, high[2]]]) for x, y in product(*zip(low[:2], high[:2], strict=True))]
    return lines


def joined(lines: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join lines into one (n, 3) with gaps of NaN between them."""
    gap = np.full((1, 3), np.nan)
    return np.concatenate([part for line in lines for part in (line, gap)])


def ticks_along(voxels: Voxels, axis: int, *, room: float) -> Locator:
    """Put ticks at round numbers or, on a side with `room` for few of them, at its first and last voxel.

    Round numbers may fall on a thin side once or not at all.
    """
    if room >= _FEW or room < _ROOM_FOR_TWO or voxels.shape[axis] == 1:
        return MaxNLocator(max(1, int(room)), min_n_ticks=1)
    return FixedLocator(voxels.ends(axis).tolist())


def set_space(
    ax: Any, voxels: Voxels, *, unit: str | None, zoom: float, frames: list[NDArray[np.float64]] | None = None
) -> None:
    """Give 3D axes the volume's box at its true proportions, seen from above its front corner."""
    low, extent = voxels.origin, voxels.extent
    high = low + extent
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    ax.set_box_aspect(extent, zoom=zoom)
    for i, (name, axis) in enumerate(zip("xyz", (ax.xaxis, ax.yaxis, ax.zaxis), strict=True)):
        axis.set_major_locator(ticks_along(voxels, i, room=_TICKS * extent[i] / extent.max()))
        axis.set_pane_color((0, 0, 0, 0))
        axis.set_label_text(with_unit(name, unit, brackets=True), fontsize="small")
    ax.zaxis.labelpad = -3  # it has few ticks, and those of a flat stack are short
    ax.grid(visible=False)
    ax.tick_params(labelsize="x-small", pad=0)
    ax.view_init(elev=35, azim=-60)
    for line in frames or []:
        ax.plot(*line.T, color=rcParams["text.color"], linewidth=0.8, clip_on=False)
