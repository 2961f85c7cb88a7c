from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._space import joined
from ._style import is_dark, with_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._grid import Voxels

__all__ = ["camera", "lines_trace", "space", "template"]

_DIAGONAL = 1.9  # of the volume, in the camera's unit
_EYE = {"x": 0.85, "y": -1.5, "z": 0.85}
_EYE_FLAT = {"x": 0.65, "y": -1.35, "z": 1.3}  # a flat stack is seen more from above
_FLAT = 1 / 3  # depth over width


def template() -> str:
    """Name the page's look on the background in force."""
    return "plotly_dark" if is_dark() else "plotly_white"


def camera(voxels: Voxels) -> dict[str, Any]:
    """Look at the volume from above its front corner."""
    is_flat = voxels.extent[2] < _FLAT * voxels.extent[:2].max()
    return {"eye": _EYE_FLAT if is_flat else _EYE, "center": {"x": 0, "y": 0, "z": -0.08}}


def space(voxels: Voxels, *, unit: str | None) -> dict[str, Any]:
    """Describe the axes: all at one scale, fixed to the whole volume so that no layer makes them jump."""
    low = voxels.origin
    extent = voxels.extent
    high = low + extent
    axes = {
        f"{name}axis": {
            "title": {"text": with_unit(name, unit, brackets=True)},
            "range": [float(low[i]), float(high[i])],
            **_ticks(voxels, i, at_most=round(6 * extent[i] / extent.max())),
            "showbackground": False,
            "showspikes": False,
        }
        for i, name in enumerate("xyz")
    }
    # of equal scale, as by "data", which would stretch a single layer to a cube
    ratio = dict(zip("xyz", (extent * _DIAGONAL / np.linalg.norm(extent)).tolist(), strict=True))
    return {"aspectmode": "manual", "aspectratio": ratio, **axes}


def _ticks(voxels: Voxels, axis: int, *, at_most: int) -> dict[str, Any]:
    """Describe ticks at round numbers or, where there would be few, at the first and last voxel."""
    if at_most > 2 or voxels.shape[axis] == 1:
        return {"nticks": max(2, at_most)}
    return {"tickvals": [round(float(end), 6) for end in voxels.ends(axis)]}


def lines_trace(lines: list[NDArray[np.float64]]) -> Any:
    """Make one trace of all lines, (k, 3) each."""
    from plotly import graph_objects as go

    x, y, z = joined(lines).T
    line = {"color": "white" if is_dark() else "black", "width": 2}
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, hoverinfo="skip", showlegend=False)
