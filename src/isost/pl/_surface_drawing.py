from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from isost._checks import optional

from ._layout import place
from ._plotly_space import camera, space, template
from ._space import set_space
from ._style import is_dark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from ._grid import Voxels
    from ._mesh import Mesh

__all__ = ["draw_page", "draw_picture", "trimesh_scene"]

_SIZE, _SIDE, _LEGEND = 5.0, 0.6, 1.6  # inches
_ZOOM = 1.15
_OPACITY, _OUTLINE_OPACITY, _OUTLINE_OPACITY_ON_DARK = 0.9, 0.1, 0.22


def _opacity(mesh: Mesh, meshes: Sequence[Mesh]) -> float:
    """Opacity of a surface: the outline lets what is in it through."""
    if not mesh.is_outline or len(meshes) == 1:
        return _OPACITY
    return _OUTLINE_OPACITY_ON_DARK if is_dark() else _OUTLINE_OPACITY


def draw_picture(meshes: Sequence[Mesh], voxels: Voxels, *, unit: str | None, ax: Axes | None) -> Any:
    """Draw surfaces into 3D axes, lit from one side."""
    axes: Any = ax
    if ax is None:
        figure = plt.figure(figsize=(_SIDE + _SIZE + _LEGEND, _SIZE))
        axes = place(figure, (_SIDE, 0.1, _SIZE - 0.2, _SIZE - 0.2), projection="3d")
    for mesh in meshes:
        color = to_rgba(mesh.color, _opacity(mesh, meshes))
        triangles = mesh.vertices[mesh.faces]
        axes.add_collection3d(Poly3DCollection(triangles, facecolors=color, linewidths=0, shade=True, clip_on=False))
    set_space(axes, voxels, unit=unit, zoom=_ZOOM)
    keys = [
        Patch(facecolor=to_rgba(mesh.color, _opacity(mesh, meshes)), edgecolor=mesh.color, label=mesh.name)
        for mesh in meshes
    ]
    axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.02, 0.9), frameon=False, fontsize="small")
    return axes


def draw_page(meshes: Sequence[Mesh], voxels: Voxels, *, unit: str | None) -> Any:
    """Make a page figure of surfaces that can be turned and switched off one by one."""
    from plotly import graph_objects as go

    traces = []
    for mesh in meshes:
        x, y, z = mesh.vertices.astype(np.float32).T
        i, j, k = mesh.faces.astype(np.int32).T
        look = {"color": mesh.color, "opacity": _opacity(mesh, meshes), "name": mesh.name, "showlegend": True}
        traces.append(go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, hoverinfo="name", **look))
    figure = go.Figure(traces)
    figure.update_layout(
        template=template(),
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        scene=space(voxels, unit=unit) | {"camera": camera(voxels)},
    )
    return figure


def trimesh_scene(meshes: Sequence[Mesh]) -> Any:
    """Gather surfaces as geometries of a `trimesh.Scene`, named and coloured."""
    trimesh = optional("trimesh", by="backend='trimesh'", extra="plot3d")
    scene = trimesh.Scene()
    for mesh in meshes:
        rgba = np.rint(255 * np.array(to_rgba(mesh.color, _opacity(mesh, meshes)))).astype(np.uint8)
        colors = np.tile(rgba, (len(mesh.vertices), 1))
        geometry = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
        scene.add_geometry(geometry, geom_name=mesh.name, node_name=mesh.name)
    return scene
