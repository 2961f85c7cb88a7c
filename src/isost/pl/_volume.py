from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isost import _keys
from isost._checks import check_at_least

from ._grid import measured_depths, voxels_of
from ._parts import part_of, parts_of_genes
from ._scene import Scene
from ._space import frame_lines
from ._style import check_choice, drawn_on, finished, is_dark
from ._volume_matplotlib import draw as draw_picture
from ._volume_plotly import draw as draw_page
from ._volume_pyvista import draw as draw_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure

    from ._color import Limit, Palette
    from ._scene import Part
    from ._space import Frames
    from ._style import Background

__all__ = ["volume"]

Backend = Literal["matplotlib", "plotly", "pyvista"]
Projection = Literal["mean", "max"]
_MOST_VOXELS = 100_000  # a page of 10 MB that still turns smoothly


def volume(
    volume: AnnData,
    *,
    color: str | Sequence[str] | None = None,
    backend: Backend = "matplotlib",
    projection: Projection = "mean",
    threshold: float | str | None = None,
    frames: Frames = None,
    layer: str | None = None,
    unit: str | None = None,
    cmap: str = "viridis",
    vmin: Limit = None,
    vmax: Limit = "p99",
    palette: Palette = None,
    max_voxels: int | None = None,
    background: Background | None = None,
    show: bool | None = None,
) -> Figure | Any:
    """Draw a volume: three projections beside a view in 3D, or a page or window to turn.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    color
        A gene or a column of `obs`: numbers are shaded and fade out towards low values, categories painted.
        Several genes share one scene: each is z-scored over the volume, a voxel takes the hue of the gene that is
        highest there and the shade of its z-score, and each gene has a colour bar. None draws `obs["density"]`.
    backend
        ``"matplotlib"`` for a picture; ``"plotly"`` for a page with a slider through depth and every voxel's values
        under the mouse, written to a file by ``figure.write_html(path)``; ``"pyvista"`` for a window with shaded
        voxels, or a picture of it by ``plotter.screenshot(path)`` where there is no screen.
    projection
        What a pixel of a projection shows of the voxels behind it: their mean, weighted by density, or the largest
        value. Of categories it shows the one of most cells. For ``"matplotlib"`` only.
    threshold
        Leave voxels of lower values (of several genes: z-scores) out of the 3D view: a number, or a percentile such
        as ``"p50"``.
    frames
        Lines in the 3D view: ``"box"`` around the volume, ``"measured"`` for a rectangle at each measured section, or
        the depth or depths of rectangles.
    layer
        Layer to take a gene from; None takes X.
    unit
        Unit of the positions, such as ``"µm"``.
    cmap
        Colour map of numbers; several genes have maps of their own.
    vmin, vmax
        Ends of the colour scale: a number, a percentile such as ``"p99"``, or None for the smallest or largest value;
        of several genes `vmin` None is 0, the gene's mean.
    palette
        Colours of categories, or of several genes: a list, a dict from name to colour, or the name of a colour map.
    max_voxels
        Most voxels to draw in 3D; beyond, blocks of voxels are drawn as one at their mean, and the figure says so.
        None takes 100,000.
    background
        ``"light"`` or ``"dark"``. None takes dark for several genes, else what matplotlib's style says.
    show
        Show now and return nothing. None does what ``scanpy.settings.autoshow`` says; a page or window is shown by
        the notebook that it is returned to, so there None returns it.

    Returns
    -------
    :class:`matplotlib.figure.Figure`, :class:`plotly.graph_objects.Figure` or `pyvista.Plotter`, or None when shown.

    Raises
    ------
    ImportError
        If `backend` is ``"pyvista"`` and that is not installed.
    KeyError
        If `volume` has no grid, or `color` or `layer` does not exist.
    TypeError
        If one of several colours is a category.
    ValueError
        If `backend`, `projection`, `frames` or `background` is unknown, `threshold` is given for categories, no voxel
        passes it, a depth in `frames` lies outside the volume, or `max_voxels` is below 1.

    Examples
    --------
    >>> isost.pl.volume(volume, color="Gad1", unit="µm")
    >>> isost.pl.volume(volume, color=["Gad1", "Mbp", "Cd24a"], threshold=1.0, frames="box")
    >>> isost.pl.volume(volume, color="Gad1", backend="plotly").write_html("Gad1.html")
    """
    check_choice("backend", backend, Backend)
    check_choice("projection", projection, Projection)
    max_voxels = _MOST_VOXELS if max_voxels is None else max_voxels
    check_at_least(1, max_voxels=max_voxels)
    color = _keys.DENSITY if color is None else color
    several = not isinstance(color, str)
    voxels = voxels_of(volume)
    with drawn_on(background or ("dark" if several else None)):
        kws: dict[str, Any] = {"threshold": threshold, "layer": layer, "palette": palette, "vmin": vmin, "vmax": vmax}
        parts: tuple[Part, ...] = (
            parts_of_genes(volume, color, dark=is_dark(), **kws)
            if not isinstance(color, str)
            else (part_of(volume, color, cmap=cmap, **kws),)
        )
        measured = measured_depths(volume, voxels)
        scene = Scene(
            voxels=voxels,
            parts=parts,
            # an average of densities is over voxels, one of anything else over the cells in them
            weights=np.ones_like(voxels.density) if color == _keys.DENSITY else voxels.density,
            measured_depths=measured,
            frames=frame_lines(voxels, frames, measured_depths=measured),
            unit=unit,
            max_voxels=max_voxels,
        )
        if backend == "matplotlib":
            figure = draw_picture(scene, projection=projection)
            return None if finished(figure, show) else figure
        drawn = draw_page(scene, told=_told(volume)) if backend == "plotly" else draw_window(scene)
    if show:
        drawn.show()
        return None
    return drawn


def _told(volume: AnnData) -> dict[str, Any]:
    """Values of each voxel to read under the mouse."""
    keys = (_keys.DENSITY, _keys.UNCERTAINTY, _keys.SECTION_DISTANCE)
    return {key: volume.obs[key].to_numpy(dtype=np.float64) for key in keys if key in volume.obs}
