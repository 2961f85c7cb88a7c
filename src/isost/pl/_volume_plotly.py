from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from isost import _keys

from ._color import Classes
from ._grid import pooled
from ._scene import CLASS_OPACITY, LEVEL_OPACITY, codes_of
from ._style import with_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._scene import Blocks, Scene

__all__ = ["draw"]

_SHADES = 32  # stops of the colour scale
_VIEW_PIXELS = 450  # about what the longest side takes up on the page
_CAMERA = {"eye": {"x": 0.85, "y": -1.5, "z": 0.85}, "center": {"x": 0, "y": 0, "z": -0.08}}
_DIAGONAL = 1.9  # of the volume, in the camera's unit
_FOOT = 0.16  # part of the page's height that the slider takes


def draw(scene: Scene, *, told: Mapping[str, NDArray[np.float64]]) -> Any:
    """Make a page figure: translucent shells of the whole, or each layer of voxels opaque, and a slider to choose.

    `told` are further values of each voxel (n,) to read under the mouse.
    """
    from plotly import graph_objects as go

    blocks = scene.blocks()
    columns = _columns(scene, blocks, told)
    shells = _shells(scene, blocks, columns)
    layers = np.unique(blocks.voxels.index[:, 2])
    of_layer = [_points(scene, blocks, blocks.voxels.index[:, 2] == layer, columns, visible=False) for layer in layers]
    figure = go.Figure([*shells, *of_layer])
    depths = blocks.voxels.origin[2] + (layers + 0.5) * blocks.voxels.size
    figure.update_layout(
        template="plotly_white",
        title={"text": scene.shades.name, "subtitle": {"text": blocks.note}, "x": 0.02},
        margin={"l": 0, "r": 0, "t": 60, "b": 0},
        scene=_space(scene),
        coloraxis=_color_axis(scene),
        sliders=[_slider(depths, scene, edge=blocks.voxels.size, is_key=[bool(trace.name) for trace in shells])],
        legend={"itemsizing": "constant"},
    )
    return figure


def _shells(scene: Scene, blocks: Blocks, columns: Mapping[str, NDArray[np.float32]]) -> list[Any]:
    """Make one trace for each fifth of the colour scale, or for each category: opacity holds for a whole trace."""
    from plotly import graph_objects as go

    traces = []
    for level in np.unique(blocks.levels[blocks.on_surface]):
        rows = blocks.on_surface & (blocks.levels == level)
        if isinstance(scene.shades, Classes):
            name = scene.shades.categories[level] if level >= 0 else "unknown"
            color = scene.shades.color_of(level)
            # a translucent trace would be pale in the legend: an empty opaque one stands there for it
            key = {"name": name, "legendgroup": name, "mode": "markers", "marker": {"color": color, "size": 8}}
            traces.append(go.Scatter3d(x=[None], y=[None], z=[None], **key))
            traces.append(_points(scene, blocks, rows, columns, opacity=CLASS_OPACITY, legendgroup=name))
        else:
            traces.append(_points(scene, blocks, rows, columns, opacity=LEVEL_OPACITY[level]))
    return traces


def _columns(scene: Scene, blocks: Blocks, told: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float32]]:
    """Further values of each block, (m,) each: densities add up, anything else is averaged over cells."""
    columns = {}
    for key, values in told.items():
        if key == _keys.DENSITY:
            merged = blocks.voxels.density
        else:
            merged = pooled(values[blocks.kept], blocks.group, weights=scene.weights[blocks.kept], how="mean")
        columns[key] = merged.astype(np.float32)
    return columns


def _points(
    scene: Scene,
    blocks: Blocks,
    rows: NDArray[np.bool_],
    columns: Mapping[str, NDArray[np.float32]],
    *,
    opacity: float = 1.0,
    **trace: Any,
) -> Any:
    from plotly import graph_objects as go

    x, y, z = blocks.voxels.centers[rows].astype(np.float32).T
    values = blocks.values[rows]
    edge = blocks.voxels.size / scene.voxels.extent.max()
    marker: dict[str, Any] = {"size": float(np.clip(_VIEW_PIXELS * edge, 2, 14)), "line": {"width": 0}}
    marker["opacity"] = opacity
    position = with_unit("%{x:.4g}, %{y:.4g}, %{z:.4g}", scene.unit)
    if isinstance(scene.shades, Classes):
        codes = codes_of(values)
        marker["color"] = [scene.shades.color_of(code) for code in codes]
        text = [scene.shades.categories[code] if code >= 0 else "unknown" for code in codes]
        first = "<b>%{text}</b>"
    else:
        marker |= {"color": values.astype(np.float32), "coloraxis": "coloraxis"}
        text = None
        first = f"<b>{scene.shades.name}: %{{marker.color:.3g}}</b>"
    others = [f"{key}: %{{customdata[{i}]:.3g}}" for i, key in enumerate(columns)]
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker=marker,
        text=text,
        customdata=np.stack([column[rows] for column in columns.values()], axis=1) if columns else None,
        hovertemplate="<br>".join([first, position, *others]) + "<extra></extra>",
        **{"showlegend": False, **trace},
    )


def _space(scene: Scene) -> dict[str, Any]:
    """Describe the axes: all at one scale, fixed to the whole volume so that no layer makes them jump."""
    low = scene.voxels.origin
    extent = scene.voxels.extent
    high = low + extent
    axes = {
        f"{name}axis": {
            "title": {"text": with_unit(name, scene.unit, brackets=True)},
            "range": [float(low[i]), float(high[i])],
            "nticks": max(2, round(6 * extent[i] / extent.max())),
            "showbackground": False,
            "showspikes": False,
        }
        for i, name in enumerate("xyz")
    }
    # of equal scale, as by "data", which would stretch a single layer to a cube
    ratio = dict(zip("xyz", (extent * _DIAGONAL / np.linalg.norm(extent)).tolist(), strict=True))
    return {"aspectmode": "manual", "aspectratio": ratio, "domain": {"y": [_FOOT, 1]}, "camera": _CAMERA, **axes}


def _color_axis(scene: Scene) -> dict[str, Any]:
    stops = np.linspace(0, 1, _SHADES)
    scale = [[float(stop), to_hex(color)] for stop, color in zip(stops, colormaps[scene.cmap](stops), strict=True)]
    bar = {"title": {"text": scene.shades.name}, "thickness": 14, "len": 0.5, "outlinewidth": 0}
    return {"colorscale": scale, "cmin": scene.scale[0], "cmax": scene.scale[1], "colorbar": bar}


def _slider(depths: NDArray[np.float64], scene: Scene, *, edge: float, is_key: list[bool]) -> dict[str, Any]:
    """Describe the slider: its first step shows the shells, each of the others a layer; keys always stay."""
    steps = [_step("all", [True] * len(is_key) + [False] * len(depths))]
    for i, depth in enumerate(depths):
        is_measured = bool(np.any(np.abs(scene.measured_depths - depth) <= edge / 2))
        label = with_unit(f"{depth:.5g}", scene.unit) + (" (measured)" if is_measured else "")
        steps.append(_step(label, [*is_key, *(j == i for j in range(len(depths)))]))
    return {
        "active": 0,
        "steps": steps,
        "currentvalue": {"prefix": "depth: "},
        "y": 0,
        "yanchor": "bottom",
        "pad": {"l": 40, "r": 40, "t": 0, "b": 30},
    }


def _step(label: str, visible: Sequence[bool | str]) -> dict[str, Any]:
    return {"label": label, "method": "restyle", "args": [{"visible": visible}]}
