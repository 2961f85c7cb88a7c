from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["plot_multi_gene_3d"]

_COLORS = (
    "#e41a1c",
    "#4daf4a",
    "#377eb8",
    "#984ea3",
    "#ff7f00",
    "#ffff33",
    "#17becf",
    "#f781bf",
    "#a65628",
    "#999999",
)
_DARK = "#080808"
_MARGIN = 0.01  # of the extent, around the frame


def plot_multi_gene_3d(
    data_df: pd.DataFrame,
    gene_roi: Sequence[str],
    noise_std: float = 0.01,
    offset: float = 0.0,
    threathold: float = 0,
    opacity: float = 0.5,
    size: float = 0.5,
    cmin: float = 0.2,
    cmax: float = 0.8,
    gene_colorscales: Sequence[Any] | None = None,
    custom_colorscales_dict: Mapping[str, Any] | None = None,
    depth_list: Sequence[float] | None = None,
) -> Any:
    """Draw several genes of a table of voxels in 3D, each voxel in the colour of the gene highest in it.

    Parameters
    ----------
    data_df
        Columns x, y and z and the genes. Not changed.
    gene_roi
        The genes to draw; each is z-scored over the table.
    noise_std
        Standard deviation of a jitter of the places, in units of the columns.
    offset
        Shift along x of the i-th gene's points, i · offset.
    threathold
        z-score above which a voxel is drawn.
    opacity, size
        Of the points.
    cmin, cmax
        z-scores at the ends of the colour scales.
    gene_colorscales
        One plotly colour scale for each gene, repeated where there are fewer.
    custom_colorscales_dict
        Gene to plotly colour scale; goes first.
    depth_list
        Depths z at which to draw a frame; the box around all voxels when None.

    Returns
    -------
    The plotly Figure.

    Raises
    ------
    KeyError
        If the table lacks a column.
    ValueError
        If no gene is given.
    """
    import plotly.graph_objects as go

    genes = list(gene_roi)
    if not genes:
        msg = "gene_roi names no gene"
        raise ValueError(msg)
    if missing := [name for name in ["x", "y", "z", *genes] if name not in data_df]:
        msg = f"the table has no column {missing[0]!r}"
        raise KeyError(msg)
    places = data_df[["x", "y", "z"]].to_numpy(np.float64)
    places = places + np.random.default_rng(0).normal(0.0, noise_std, places.shape)
    values = data_df[genes].to_numpy(np.float64)
    spread = values.std(axis=0)
    scores = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    highest = scores.argmax(axis=1)
    figure = go.Figure()
    for i, gene in enumerate(genes):
        rows = (highest == i) & (scores[:, i] > threathold)
        if not rows.any():
            continue
        x, y, z = places[rows].T
        bar = {"title": gene, "x": (i + 0.5) / len(genes), "y": -0.2, "len": 0.2, "thickness": 10, "tickvals": []}
        figure.add_scatter3d(
            x=x + i * offset,
            y=y,
            z=z,
            mode="markers",
            name=gene,
            marker={
                "size": size,
                "opacity": opacity,
                "color": scores[rows, i],
                "cmin": cmin,
                "cmax": cmax,
                "colorscale": _colorscale(i, gene, gene_colorscales, custom_colorscales_dict),
                "colorbar": bar,
                "showscale": True,
            },
        )
    _draw_frames(figure, places, depth_list)
    axis = {"color": "white"}
    figure.update_layout(
        margin={"l": 0, "r": 0, "b": 0, "t": 50},
        scene={"aspectmode": "data", "bgcolor": _DARK, "xaxis": axis, "yaxis": axis, "zaxis": axis},
        paper_bgcolor=_DARK,
        font={"color": "white"},
    )
    return figure


def _colorscale(i: int, gene: str, listed: Sequence[Any] | None, by_gene: Mapping[str, Any] | None) -> Any:
    if by_gene is not None and gene in by_gene:
        return by_gene[gene]
    if listed:
        return listed[i % len(listed)]
    return [[0, "white"], [1, _COLORS[i % len(_COLORS)]]]


def _draw_frames(figure: Any, places: NDArray[np.float64], depths: Sequence[float] | None) -> None:
    """Draw the edges of the box around all places, or a rectangle at each depth."""
    low, high = places.min(axis=0), places.max(axis=0)
    low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
    outline = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]), (low[0], low[1])]
    levels = [low[2], high[2]] if depths is None else list(depths)
    lines = [[(x, y, z) for x, y in outline] for z in levels]
    if depths is None:
        lines += [[(x, y, z) for z in levels] for x, y in product((low[0], high[0]), (low[1], high[1]))]
    # one trace, its lines apart by a gap
    points = [point for line in lines for point in [*line, (None, None, None)]]
    x, y, z = zip(*points, strict=True)
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="lines", line={"color": "white", "width": 2}, name="frame", showlegend=False
    )
