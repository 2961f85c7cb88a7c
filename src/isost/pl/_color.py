from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Colormap, Normalize, to_hex, to_rgba_array

from isost._checks import did_you_mean, layer_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray


__all__ = [
    "MISSING",
    "Classes",
    "Coloring",
    "Limit",
    "Numbers",
    "Palette",
    "check_known",
    "class_colors",
    "codes_of",
    "coloring_of",
    "field",
    "limits",
    "percentile_or_number",
    "stored_colors",
    "values_of",
]

MISSING = "#b0b0b0"
Limit: TypeAlias = "float | str | None"
Palette: TypeAlias = "str | Sequence[str] | Mapping[str, str] | None"


@dataclass(frozen=True)
class Numbers:
    """A quantity to shade by: `values` (n,), NaN where unknown."""

    name: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """Categories to paint by: `codes` (n,) into `categories`, -1 where unknown; one colour for each category."""

    name: str
    codes: NDArray[np.intp]
    categories: list[str]
    colors: list[str]

    @property
    def key(self) -> dict[str, str]:
        """Colour of each category that there is anything of, for a legend."""
        present = np.unique(self.codes[self.codes >= 0])
        return {self.categories[code]: self.colors[code] for code in present}

    def color_of(self, code: int) -> str:
        """Colour of a code, grey for -1."""
        return MISSING if code < 0 else self.colors[code]


@dataclass(frozen=True)
class Coloring:
    """What to colour by, and how.

    Attributes
    ----------
    shades
        The quantity or the categories.
    scale
        Ends of the colour scale of a quantity.
    cmap
        Colour map of a quantity.
    """

    shades: Numbers | Classes
    scale: tuple[float, float]
    cmap: Colormap

    @classmethod
    def of(cls, shades: Numbers | Classes, *, cmap: str | Colormap, vmin: Limit, vmax: Limit) -> Coloring:
        """Find the ends of the colour scale."""
        scale = limits(shades.values, vmin=vmin, vmax=vmax) if isinstance(shades, Numbers) else (0.0, 1.0)
        return cls(shades, scale, colormaps[cmap] if isinstance(cmap, str) else cmap)

    @property
    def values(self) -> NDArray[np.float64]:
        """Numbers, or codes of categories with NaN where unknown, (n,)."""
        if isinstance(self.shades, Numbers):
            return self.shades.values
        return np.where(self.shades.codes < 0, np.nan, self.shades.codes)

    def rgba(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Colours (..., 4) of values or codes (...); transparent where NaN."""
        if isinstance(self.shades, Classes):
            table = np.asarray(to_rgba_array([*self.shades.colors, "none"]), dtype=np.float64)
            return table[codes_of(values)]
        colors = np.asarray(self.cmap(Normalize(*self.scale)(values)), dtype=np.float64)
        colors[np.isnan(values), 3] = 0
        return colors


def codes_of(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Turn numbers back into codes of categories, -1 where NaN."""
    return np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.intp)


def coloring_of(
    adata: AnnData, color: str, *, layer: str | None, palette: Palette, cmap: str, vmin: Limit, vmax: Limit
) -> Coloring:
    """Colour the rows of an AnnData by a gene or a column of `obs`; it must be known somewhere."""
    values = values_of(adata, color, layer=layer)
    shades = field(values, name=color, stored=stored_colors(adata, color), palette=palette)
    coloring = Coloring.of(shades, cmap=cmap, vmin=vmin, vmax=vmax)
    check_known(coloring.values, color)
    return coloring


def check_known(values: NDArray[np.float64], name: str) -> None:
    """Refuse values of which none is known."""
    if not np.isfinite(values).any():
        msg = f"{name!r} is missing everywhere (NaN), so there is nothing to draw; fill it, or choose another color="
        raise ValueError(msg)


def values_of(adata: AnnData, color: str, *, layer: str | None) -> pd.Series:
    """Take a column of `obs` or, if there is none of that name, the expression of a gene (X or a layer)."""
    if not isinstance(color, str):
        msg = f"color takes one gene or column at a time, got {color!r}; draw a figure of each"
        raise TypeError(msg)
    if color in adata.obs:
        column: pd.Series = adata.obs[color].reset_index(drop=True)
        return column
    if color not in adata.var_names:
        _raise_unknown(adata, color)
    if layer is not None and layer not in adata.layers:
        msg = f"no layer {layer!r}; there are {sorted(layer_names(adata))}, and layer=None takes X"
        raise KeyError(msg)
    chosen = adata[:, color]
    matrix = chosen.X if layer is None else chosen.layers[layer]
    if hasattr(matrix, "compute"):
        matrix = matrix.compute()
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return pd.Series(np.asarray(dense, dtype=np.float64).ravel(), name=color)


def _raise_unknown(adata: AnnData, color: str) -> None:
    names = [*map(str, adata.obs.columns), *map(str, adata.var_names)]
    hint = did_you_mean([color], names, otherwise="see adata.var_names and adata.obs.columns")
    msg = f"color={color!r} is neither a gene in var_names nor a column of obs; {hint}"
    raise KeyError(msg)


def stored_colors(adata: AnnData, color: str) -> dict[str, str]:
    """Colours that scanpy keeps in `uns` for the categories of a column; none where they do not fit together."""
    colors = adata.uns.get(f"{color}_colors", ())
    column = adata.obs.get(color)
    if column is None or not isinstance(column.dtype, pd.CategoricalDtype):
        return {}
    categories = [str(category) for category in column.cat.categories]
    return dict(zip(categories, map(str, colors), strict=True)) if len(colors) == len(categories) else {}


def field(values: pd.Series, *, name: str, stored: Mapping[str, str], palette: Palette) -> Numbers | Classes:
    """Keep numbers as they are; give strings, booleans and categories their colours."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return Numbers(name, values.to_numpy(dtype=np.float64, na_value=np.nan))
    classes = pd.Categorical(values)
    categories = [str(category) for category in classes.categories]
    colors = class_colors(categories, stored=stored, palette=palette)
    return Classes(name, np.asarray(classes.codes, dtype=np.intp), categories, colors)


def class_colors(categories: list[str], *, palette: Palette, stored: Mapping[str, str] | None = None) -> list[str]:
    """Give each category a colour: from the palette, else those stored if all are, else scanpy's."""
    if palette is None:
        stored = stored or {}
        is_complete = all(category in stored for category in categories)
        chosen: Sequence[Any] = (
            [stored[category] for category in categories] if is_complete else _default_colors(len(categories))
        )
    elif isinstance(palette, str):
        sampled = colormaps[palette].resampled(max(len(categories), 1))
        chosen = [sampled(i) for i in range(len(categories))]
    elif isinstance(palette, Mapping):
        chosen = [palette.get(category, MISSING) for category in categories]
    elif len(palette) < len(categories):
        msg = f"palette has {len(palette)} colours for {len(categories)} categories; give one for each or palette=None"
        raise ValueError(msg)
    else:
        chosen = palette[: len(categories)]
    return [to_hex(color) for color in chosen]


def _default_colors(n: int) -> list[str]:
    # scanpy's own, so that a cell type has the same colour here as in sc.pl.embedding
    from scanpy.plotting import palettes

    for known in (palettes.default_20, palettes.default_28, palettes.default_102):
        if n <= len(known):
            return list(known[:n])
    return [palettes.default_102[i % 102] for i in range(n)]


def percentile_or_number(limit: float | str, values: NDArray[np.float64], *, what: str) -> float:
    """Turn a limit into a number: ``"p99"`` is the 99th percentile of the known values."""
    is_percentile = isinstance(limit, str) and limit.startswith("p")
    try:
        number = float(limit.removeprefix("p") if isinstance(limit, str) else limit)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number) or (isinstance(limit, str) and not (is_percentile and 0 <= number <= 100)):
        msg = f"{what}={limit!r} is neither a number nor a percentile like 'p99'"
        raise ValueError(msg)
    return float(np.nanpercentile(values, number)) if is_percentile else number


def limits(values: NDArray[np.float64], *, vmin: Limit, vmax: Limit) -> tuple[float, float]:
    """Find the ends of the colour scale; a percentile that leaves no range (a rare gene) gives way to the extremes."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low = float(known.min()) if vmin is None else percentile_or_number(vmin, known, what="vmin")
    high = float(known.max()) if vmax is None else percentile_or_number(vmax, known, what="vmax")
    gives_way = isinstance(vmax, str) and not isinstance(vmin, str)
    if low > high and vmax is not None and not gives_way:
        msg = f"the colour scale would run from {low:g} down to {high:g}: choose vmin={vmin!r} below vmax={vmax!r}"
        raise ValueError(msg)
    if high <= low and isinstance(vmax, str):
        high = float(known.max())
    return (low, high) if high > low else (low, low + 1.0)
