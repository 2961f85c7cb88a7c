from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_hex

from isost import _keys

from ._color import Classes, codes_of
from ._grid import pooled, told_sections
from ._plotly_space import camera, lines_trace, space, template
from ._style import with_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._color import Coloring
    from ._scene import Blocks, Scene

__all__ = ["draw"]

_SHADES = 32  # stops of the colour scale
_VIEW_PIXELS = 250  # what the longest side takes up on the page, in the size of a marker (its radius, about)
_FOOT = 0.16  # part of the page's height that the slider takes


def draw(scene: Scene, *, told: Mapping[str, NDArray[np.float64]]) -> Any:
    """Make a page figure: translucent shells of the whole, or each layer of voxels opaque, and a slider to choose.

    `told` are further values of each voxel (n,) to read under the mouse.
    """
    from plotly import graph_objects as go

    parts = [_Points(scene, blocks, i, told) for i, blocks in enumerate(scene.blocks())]
    shells = [trace for part in parts for trace in part.shells()]
    layers = np.unique(np.concatenate([part.layer for part in parts]))
    of_layer = [(layer, part.of_layer(layer)) for layer in layers for part in parts if (part.layer == layer).any()]
    always = [lines_trace(scene.frames)] if scene.frames else []
    figure = go.Figure([*always, *shells, *(trace for _, trace in of_layer)])
    depths = scene.voxels.origin[2] + (layers + 0.5) * scene.block_size
    stays = [True] * len(always) + [bool(trace.name) for trace in shells]
    shown_at = [[*stays, *(own == layer for own, _ in of_layer)] for layer in layers]
    figure.update_layout(
        template=template(),
        title={"text": scene.title, "subtitle": {"text": scene.note}, "x": 0.02},
        margin={"l": 0, "r": 0, "t": 60, "b": 0},
        scene=space(scene.voxels, unit=scene.unit) | {"domain": {"y": [_FOOT, 1]}, "camera": camera(scene.voxels)},
        sliders=[_slider(depths, scene, everything=[True] * len(stays) + [False] * len(of_layer), shown_at=shown_at)],
        legend={"itemsizing": "constant"},
        **_color_axes(scene.colorings),
    )
    return figure


class _Points:
    """The blocks of one part as traces of points."""

    def __init__(self, scene: Scene, blocks: Blocks, i: int, told: Mapping[str, NDArray[np.float64]]) -> None:
        self._blocks = blocks
        self._color_axis = _axis_name(i)
        self._unit = scene.unit
        self._size = float(np.clip(_VIEW_PIXELS * scene.block_size / scene.voxels.extent.max(), 1.5, 14))
        self._told = {key: _merged(key, values, blocks, scene.weights) for key, values in told.items()}
        self.layer: NDArray[np.int64] = blocks.voxels.index[:, 2]

    def shells(self) -> list[Any]:
        """Make one trace for each fifth of the colour scale, or each category: opacity holds for a whole trace."""
        from plotly import graph_objects as go

        blocks, traces = self._blocks, []
        for level, rows in blocks.shells:
            if isinstance(blocks.coloring.shades, Classes):
                name = blocks.coloring.shades.categories[level] if level >= 0 else "unknown"
                color = blocks.coloring.shades.color_of(level)
                # a translucent trace would be pale in the legend: an empty opaque one stands there for it
                key = {"name": name, "legendgroup": name, "mode": "markers", "marker": {"color": color, "size": 8}}
                traces.append(go.Scatter3d(x=[None], y=[None], z=[None], **key))
                traces.append(self._trace(rows, opacity=blocks.opacity(level), legendgroup=name))
            else:
                traces.append(self._trace(rows, opacity=blocks.opacity(level)))
        return traces

    def of_layer(self, layer: int) -> Any:
        """Make the opaque trace of one layer, hidden at first."""
        return self._trace(self.layer == layer, visible=False)

    def _trace(self, rows: NDArray[np.bool_], *, opacity: float = 1.0, **trace: Any) -> Any:
        from plotly import graph_objects as go

        x, y, z = self._blocks.voxels.centers[rows].astype(np.float32).T
        shades, values = self._blocks.coloring.shades, self._blocks.values[rows]
        marker: dict[str, Any] = {"size": self._size, "line": {"width": 0}, "opacity": opacity}
        marker["coloraxis"] = self._color_axis
        if isinstance(shades, Classes):
            codes = codes_of(values)
            marker["color"] = codes.astype(np.int16)
            names = np.array([*shades.categories, "unknown"])
            # one word for all makes a smaller page than a word for each
            text = names[codes[0]] if (codes == codes[0]).all() else names[codes]
            first = "<b>%{text}</b>"
        else:
            marker["color"] = values.astype(np.float32)
            text = None
            first = f"<b>{shades.name}: %{{marker.color:.3g}}</b>"
        position = with_unit("%{x:.4g}, %{y:.4g}, %{z:.4g}", self._unit)
        others = [f"{key}: %{{customdata[{i}]:.3g}}" for i, key in enumerate(self._told)]
        return go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            marker=marker,
            text=text,
            customdata=np.stack([column[rows] for column in self._told.values()], axis=1) if self._told else None,
            hovertemplate="<br>".join([first, position, *others]) + "<extra></extra>",
            **{"showlegend": False, **trace},
        )


def _merged(key: str, values: NDArray[np.float64], blocks: Blocks, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bring a value of the voxels to the blocks (m,): densities add up, anything else is averaged over cells."""
    if key == _keys.DENSITY:
        return blocks.voxels.density.astype(np.float32)
    merged = pooled(values[blocks.kept], blocks.group, weights=weights[blocks.kept], how="mean")
    return merged.astype(np.float32)


def _axis_name(i: int) -> str:
    return "coloraxis" if i == 0 else f"coloraxis{i + 1}"


def _color_axes(colorings: Sequence[Coloring]) -> dict[str, Any]:
    """Describe the colours of categories, or the colour scale of each quantity, their bars above one another."""
    n = len(colorings)
    axes = {}
    for i, coloring in enumerate(colorings):
        if isinstance(coloring.shades, Classes):
            axes[_axis_name(i)] = _class_axis(coloring.shades)
            continue
        stops = np.linspace(0, 1, _SHADES)
        scale = [[float(stop), to_hex(color)] for stop, color in zip(stops, coloring.cmap(stops), strict=True)]
        bar = {"title": {"text": coloring.shades.name}, "thickness": 14, "outlinewidth": 0, "yanchor": "top"}
        bar |= {"len": min(0.5, 0.8 / n), "y": 0.95 - 0.8 * i / n}
        low, high = coloring.scale
        axes[_axis_name(i)] = {"colorscale": scale, "cmin": low, "cmax": high, "colorbar": bar}
    return axes


def _class_axis(classes: Classes) -> dict[str, Any]:
    """Describe a scale in steps, one for each code from -1: numbers take less of the page than names of colours."""
    n = len(classes.categories) + 1
    steps = [[(i + end) / n, classes.color_of(i - 1)] for i in range(n) for end in (0, 1)]
    return {"colorscale": steps, "cmin": -1.5, "cmax": n - 1.5, "showscale": False}


def _slider(
    depths: NDArray[np.float64], scene: Scene, *, everything: list[bool], shown_at: list[list[bool]]
) -> dict[str, Any]:
    """Describe the slider: its first step shows the shells, each of the others a layer."""
    steps = [_step("all", everything)]
    for depth, visible in zip(depths, shown_at, strict=True):
        label = with_unit(f"{depth:.5g}", scene.unit)
        if told := told_sections(depth, scene.measured_at(depth), scene.unit):
            label += f" ({told})"
        steps.append(_step(label, visible))
    return {
        "active": 0,
        "steps": steps,
        "currentvalue": {"prefix": "depth: "},
        "y": 0,
        "yanchor": "bottom",
        "pad": {"l": 40, "r": 40, "t": 0, "b": 30},
    }


def _step(label: str, visible: Sequence[bool]) -> dict[str, Any]:
    return {"label": label, "method": "restyle", "args": [{"visible": visible}]}
