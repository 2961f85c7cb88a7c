from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isost._checks import check_at_least

from ._color import Classes, class_colors, coloring_of, percentile_or_number
from ._grid import voxels_of
from ._mesh import mesh_around
from ._style import Background, check_choice, drawn_on, finished
from ._surface_drawing import draw_page, draw_picture, trimesh_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

    from ._color import Palette
    from ._grid import Voxels
    from ._mesh import Mesh

__all__ = ["surface"]

Backend = Literal["matplotlib", "plotly", "trimesh"]
_OUTLINE_COLOR = "#b8b8b8"


def surface(
    volume: AnnData,
    *,
    color: str | None = None,
    groups: str | Sequence[str] | None = None,
    threshold: float | str = "p90",
    outline: bool = True,
    smoothing: float = 0.6,
    backend: Backend = "matplotlib",
    layer: str | None = None,
    unit: str | None = None,
    palette: Palette = None,
    background: Background | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Any:
    """Draw the outline of a volume, the regions of cell types, or where a gene is high, as surfaces; or export them.

    Surfaces are found by marching cubes (Lorensen and Cline, SIGGRAPH 1987) and lie half-way between the voxels inside
    and those outside, or where a quantity crosses its threshold.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    color
        A categorical column of `obs`, each category a surface around the voxels in which it is the most probable; or
        a gene or a numeric column. None draws the outline alone.
    groups
        Categories to draw; None draws all.
    threshold
        Value of a quantity on its surface: a number, or a percentile such as ``"p90"``.
    outline
        Whether to draw the translucent outline of the whole around the regions.
    smoothing
        Standard deviation of a Gaussian, in voxels. The default keeps sheets that are one voxel thick and drops
        single voxels.
    backend
        ``"matplotlib"`` for a picture, ``"plotly"`` for a page to turn, ``"trimesh"`` for the surfaces themselves in
        input units, one geometry for each: ``scene.export(path)`` writes ``.glb``, ``.ply`` or ``.obj``.
    layer
        Layer to take a gene from; None takes X.
    unit
        Unit of the positions, such as ``"µm"``.
    palette
        Colours of categories: a list, a dict from category to colour, or the name of a colour map.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    ax
        3D axes to draw into, for ``"matplotlib"``; a new figure is made when None.
    show
        Show now and return nothing. None does what ``scanpy.settings.autoshow`` says, unless `ax` is given; what the
        other backends make is shown by the notebook that it is returned to.

    Returns
    -------
    :class:`mpl_toolkits.mplot3d.axes3d.Axes3D`, :class:`plotly.graph_objects.Figure` or `trimesh.Scene`, or None when
    shown.

    Raises
    ------
    ImportError
        If `backend` is ``"trimesh"`` and that is not installed.
    KeyError
        If `volume` has no grid, `color` or `layer` does not exist, or `groups` names no category.
    ValueError
        If `backend` is unknown, `groups` is given without categories, `smoothing` is negative, `ax` is not 3D, or
        nothing is enclosed.

    Examples
    --------
    >>> isost.pl.surface(volume, color="cell_type", groups="Lining", unit="µm")
    >>> isost.pl.surface(volume, color="cell_type", groups="Lining", backend="trimesh").export("lining.glb")
    """
    check_choice("backend", backend, Backend)
    check_at_least(0, smoothing=smoothing)
    if ax is not None and ax.name != "3d":
        msg = "a surface needs 3D axes: give ax=plt.figure().add_subplot(projection='3d')"
        raise ValueError(msg)
    voxels = voxels_of(volume)
    meshes = _regions(volume, voxels, color, groups, threshold, layer=layer, palette=palette, smoothing=smoothing)
    if outline or color is None:
        whole = np.ones(len(voxels.index))
        look: dict[str, Any] = {"name": "outline", "color": _OUTLINE_COLOR, "is_outline": True}
        meshes.append(mesh_around(voxels, whole, smoothing=smoothing, **look))
    found = [mesh for mesh in meshes if mesh is not None]
    if not found:
        msg = "no surface encloses anything; lower smoothing= or threshold="
        raise ValueError(msg)
    with drawn_on(background):
        if backend == "trimesh":
            return trimesh_scene(found)
        if backend == "plotly":
            page = draw_page(found, voxels, unit=unit)
            return page.show() if show else page
        axes = draw_picture(found, voxels, unit=unit, ax=ax)
        return None if finished(axes.figure, show, ax=ax) else axes


def _regions(
    volume: AnnData,
    voxels: Voxels,
    color: str | None,
    groups: str | Sequence[str] | None,
    threshold: float | str,
    *,
    layer: str | None,
    palette: Palette,
    smoothing: float,
) -> list[Mesh | None]:
    """Lay a surface around each category, or around high values of a quantity."""
    if color is None:
        return []
    shades = coloring_of(volume, color, layer=layer, palette=palette, cmap="viridis", vmin=None, vmax=None).shades
    if isinstance(shades, Classes):
        return [
            mesh_around(
                voxels,
                (shades.codes == code).astype(np.float64),
                name=shades.categories[code],
                color=shades.color_of(code),
                smoothing=smoothing,
            )
            for code in _codes(shades, groups)
        ]
    if groups is not None:
        msg = f"groups={groups!r} needs categories, but {color!r} is a quantity; choose by threshold="
        raise ValueError(msg)
    known = np.nan_to_num(shades.values, nan=np.nanmin(shades.values))
    level = percentile_or_number(threshold, known, what="threshold")
    # rises through a half at the threshold, as steeply as the values rise
    membership = np.clip(0.5 + (known - level) / (2 * known.std() or 1.0), 0, 1)
    hue = class_colors([color], palette=palette)[0]
    name = f"{color} ≥ {level:.3g}"
    return [mesh_around(voxels, membership, name=name, color=hue, smoothing=smoothing)]


def _codes(classes: Classes, groups: str | Sequence[str] | None) -> list[int]:
    if groups is None:
        return list(range(len(classes.categories)))
    wanted = [groups] if isinstance(groups, str) else list(groups)
    missing = [name for name in wanted if name not in classes.categories]
    if missing:
        msg = f"groups={missing} are no categories of {classes.name!r}, which has {classes.categories}"
        raise KeyError(msg)
    return [classes.categories.index(name) for name in wanted]
