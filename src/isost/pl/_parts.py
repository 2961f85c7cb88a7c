from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from isost._logging import logger

from ._color import Coloring, Numbers, check_known, class_colors, coloring_of, percentile_or_number, values_of
from ._scene import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.colors import Colormap
    from numpy.typing import NDArray

    from ._color import Limit, Palette

__all__ = ["part_of", "parts_of_genes"]


def part_of(
    volume: AnnData,
    color: str,
    *,
    threshold: float | str | None,
    layer: str | None,
    palette: Palette,
    cmap: str,
    vmin: Limit,
    vmax: Limit,
) -> Part:
    """Colour a volume by one gene or column; a threshold keeps voxels of lower values out of the 3D view."""
    coloring = coloring_of(volume, color, layer=layer, palette=palette, cmap=cmap, vmin=vmin, vmax=vmax)
    shades = coloring.shades
    if isinstance(shades, Numbers):
        return Part(coloring, _at_least(threshold, shades.values, what=repr(color)))
    if threshold is not None:
        msg = f"threshold={threshold!r} needs numbers, but {color!r} is a category; leave it out"
        raise ValueError(msg)
    return Part(coloring, np.ones(len(shades.codes), dtype=bool))


def parts_of_genes(
    volume: AnnData,
    colors: Sequence[str],
    *,
    threshold: float | str | None,
    layer: str | None,
    palette: Palette,
    vmin: Limit,
    vmax: Limit,
    dark: bool,
) -> tuple[Part, ...]:
    """Colour each voxel by whichever gene is highest there among `colors`, each z-scored over the volume."""
    if not colors:
        msg = "color is an empty list; name a gene"
        raise ValueError(msg)
    scores = np.stack([_z_scores(volume, name, layer=layer) for name in colors])
    highest = scores.argmax(axis=0)
    kept = _at_least(threshold, scores.max(axis=0), what="any gene's z-score")
    parts = []
    for i, (name, hue) in enumerate(zip(colors, class_colors(list(colors), palette=palette), strict=True)):
        own = kept & (highest == i)
        if not own.any():
            logger.warning("%r is nowhere the highest of the genes drawn, and is left out", name)
            continue
        shades = Numbers(f"{name} (z)", scores[i])
        low = 0.0 if vmin is None else vmin  # a gene's mean over the volume
        scale = Coloring.of(Numbers(name, scores[i, own]), cmap="viridis", vmin=low, vmax=vmax).scale
        parts.append(Part(Coloring(shades, scale, _hue_map(name, hue, dark=dark)), own))
    return tuple(parts)


def _z_scores(volume: AnnData, name: str, *, layer: str | None) -> NDArray[np.float64]:
    values = values_of(volume, name, layer=layer)
    try:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        msg = f"{name!r} is a category; several in one scene must be genes or numbers"
        raise TypeError(msg) from error
    check_known(numbers, name)
    spread = np.nanstd(numbers)
    scores = (numbers - np.nanmean(numbers)) / (spread if spread > 0 else 1.0)
    return np.where(np.isnan(scores), -np.inf, scores)


def _at_least(threshold: float | str | None, values: NDArray[np.float64], *, what: str) -> NDArray[np.bool_]:
    if threshold is None:
        return np.isfinite(values)
    least = percentile_or_number(threshold, values, what="threshold")
    kept = values >= least
    if not kept.any():
        msg = f"no voxel has {what} of at least threshold={least:g}; the largest is {np.nanmax(values):g}"
        raise ValueError(msg)
    return kept


def _hue_map(name: str, hue: str, *, dark: bool) -> Colormap:
    """Run from nearly the background through the hue to a brighter or deeper one."""
    rgb = np.array(to_rgb(hue))
    far = np.zeros(3) if dark else np.ones(3)
    stops = [0.75 * far + 0.25 * rgb, rgb, 0.4 * (1 - far) + 0.6 * rgb]
    return LinearSegmentedColormap.from_list(name, [tuple(stop) for stop in stops])
