from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._color import coloring_of
from ._grid import measured_depths, told_sections, voxels_of
from ._layout import explain, panel_axes
from ._plane import PIXELS_PER_VOXEL, draw_plane, plane_at
from ._style import add_scale_bar, drawn_on, finished, with_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure

    from ._color import Limit
    from ._style import Background

__all__ = ["gene_grid"]

_LONG_SIDE, _HEAD, _FOOT = 1.7, 0.42, 0.3  # inches
_DEPTHS = 5


def gene_grid(
    volume: AnnData,
    genes: str | Sequence[str],
    *,
    z: float | Sequence[float] | None = None,
    layer: str | None = None,
    unit: str | None = None,
    cmap: str = "viridis",
    vmin: Limit = None,
    vmax: Limit = "p99",
    background: Background | None = None,
    show: bool | None = None,
) -> Figure | None:
    """Draw many genes at many depths of a volume: a row for each gene, with a colour scale of its own.

    Under a depth it says whether it is measured or, where the layer of voxels there holds a section at another depth,
    at which.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returns.
    genes
        A gene or a column of `obs`, or several.
    z
        Depth or depths, input units; None takes five from the first layer of voxels to the last.
    layer
        Layer to take genes from; None takes X.
    unit
        Unit of the positions, such as ``"µm"``.
    cmap
        Colour map of numbers.
    vmin, vmax
        Ends of each gene's colour scale over the whole volume: a number, a percentile such as ``"p99"``, or None for
        the smallest or largest value.
    background
        ``"light"`` or ``"dark"``; None is what matplotlib's style says.
    show
        Show the figure now and return nothing. None does what ``scanpy.settings.autoshow`` says.

    Returns
    -------
    :class:`matplotlib.figure.Figure`, its first axes those of the panels row by row, or None when shown.

    Raises
    ------
    KeyError
        If `volume` has no grid, or a gene or `layer` does not exist.
    ValueError
        If no gene or depth is given, or a depth lies outside the volume.

    Examples
    --------
    >>> isost.pl.gene_grid(volume, ["Gad1", "Mbp", "Cd24a"], unit="µm")
    """
    voxels = voxels_of(volume)
    layers = voxels.centers[:, 2]
    depths = np.linspace(layers.min(), layers.max(), _DEPTHS) if z is None else np.ravel(np.asarray(z, np.float64))
    genes = [genes] if isinstance(genes, str) else list(genes)
    if not len(genes) or not len(depths):
        msg = "genes= or z= is an empty list; ask for at least one of each"
        raise ValueError(msg)
    planes = [plane_at(float(depth), None, voxels) for depth in depths]
    colorings = [
        coloring_of(volume, gene, layer=layer, palette=None, cmap=cmap, vmin=vmin, vmax=vmax) for gene in genes
    ]
    measured = measured_depths(volume, voxels)
    n = len(depths)
    with drawn_on(background):
        axes = panel_axes(
            len(genes) * n,
            ncols=n,
            extent=voxels.extent[:2],
            colorings=colorings,
            long_side=_LONG_SIDE,
            head=_HEAD,
            foot=_FOOT,
        )
        for i, coloring in enumerate(colorings):
            row = axes[i * n : (i + 1) * n]
            for ax, plane in zip(row, planes, strict=True):
                draw_plane(ax, voxels, coloring, plane, pixel=voxels.size / PIXELS_PER_VOXEL)
            explain(row, [coloring])
        for ax, depth in zip(axes, depths, strict=False):
            told = told_sections(depth, voxels.in_layer_of(depth, measured), unit)
            ax.set_title(f"{with_unit(f'z = {depth:.4g}', unit)}\n{told}", loc="left", fontsize="small")
        add_scale_bar(axes[-1], width=float(voxels.extent[0]), unit=unit)
        figure = axes[0].figure
        return None if finished(figure, show) else figure  # type: ignore[return-value]
