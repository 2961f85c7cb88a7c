from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from isost._checks import optional

from ._color import Classes
from ._mesh import mesh_around
from ._style import is_dark, with_unit

if TYPE_CHECKING:
    from ._scene import Blocks, Scene

__all__ = ["draw"]

_FOG = (0.0, 0.02, 0.05, 0.15, 0.4, 0.8)  # opacity of a voxel along the colour scale
_REGION_OPACITY = 0.15  # at least
_REGION_SMOOTHING = 0.6  # voxels
_WINDOW = (1200, 800)
_VIEW = (0.6, -1.0, 0.9)


def draw(scene: Scene) -> Any:
    """Fill a plotter: a fog as dense as a quantity is high, or a surface around the voxels of each category."""
    pv = optional("pyvista", by="backend='pyvista'", extra="plot3d")
    # without a display, a window would be asked for in vain
    plotter = pv.Plotter(off_screen=True if _has_no_display() else None, window_size=_WINDOW)
    ink, paper = ("white", "black") if is_dark() else ("black", "white")
    plotter.set_background(paper)
    all_blocks = scene.blocks()
    for i, blocks in enumerate(all_blocks):
        if isinstance(blocks.coloring.shades, Classes):
            _add_regions(plotter, blocks)
        else:
            _add_fog(plotter, blocks, bar=_bar(i, len(all_blocks), ink=ink))
    for line in scene.frames:
        plotter.add_mesh(pv.lines_from_points(line), color=ink, line_width=1)
    size = " × ".join(f"{edge:.4g}" for edge in scene.voxels.extent)
    plotter.add_text(with_unit(size, scene.unit), position="lower_left", font_size=9, color=ink)
    if scene.note:
        plotter.add_text(scene.note, position="upper_left", font_size=9, color=ink)
    plotter.add_axes(color=ink, viewport=(0, 0.05, 0.13, 0.25))
    plotter.view_vector(_VIEW, viewup=(0, 0, 1))
    plotter.camera.zoom(1.3)
    return plotter


def _has_no_display() -> bool:
    return sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _bar(i: int, n: int, *, ink: str) -> dict[str, Any]:
    height = min(0.4, 0.8 / n)
    place = {"position_x": 0.9, "position_y": 0.92 - (i + 1) * height, "width": 0.06, "height": 0.85 * height}
    look = {"color": ink, "n_labels": 3, "fmt": "%.2g", "title_font_size": 16, "label_font_size": 14}
    return {"vertical": True, **place, **look}


def _add_fog(plotter: Any, blocks: Blocks, *, bar: dict[str, Any]) -> None:
    import pyvista as pv

    coloring, voxels = blocks.coloring, blocks.voxels
    low, high = coloring.scale
    # where there is no voxel, as at the low end of the scale, there is no fog
    values = voxels.dense(np.clip(np.nan_to_num(blocks.values, nan=low), low, high), empty=low)
    grid = pv.ImageData(dimensions=values.shape, spacing=[voxels.size] * 3, origin=voxels.origin + voxels.size / 2)
    grid[coloring.shades.name] = values.ravel(order="F")
    plotter.add_volume(
        grid,
        clim=(low, high),
        cmap=coloring.cmap,
        opacity=list(_FOG),
        opacity_unit_distance=voxels.size,
        scalar_bar_args={"title": coloring.shades.name, **bar},
    )


def _add_regions(plotter: Any, blocks: Blocks) -> None:
    import pyvista as pv

    classes = blocks.coloring.shades
    assert isinstance(classes, Classes)
    row = 0.95
    for code, name in enumerate(classes.categories):
        inside = (blocks.levels == code).astype(np.float64)
        mesh = mesh_around(blocks.voxels, inside, name=name, color=classes.color_of(code), smoothing=_REGION_SMOOTHING)
        if mesh is not None:
            surface = pv.PolyData.from_regular_faces(mesh.vertices, mesh.faces.astype(int))
            plotter.add_mesh(
                surface, color=mesh.color, opacity=max(_REGION_OPACITY, blocks.opacity(code)), smooth_shading=True
            )
            plotter.add_text(name, position=(0.85, row), viewport=True, font_size=9, color=mesh.color)
            row -= 0.03
